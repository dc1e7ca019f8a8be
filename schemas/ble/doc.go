// Package ble is the feed of BLE detections: the fields of a detection's payload, and the
// way from window results to OCSF Device Inventory Info events.
package ble
