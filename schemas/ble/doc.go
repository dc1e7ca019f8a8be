// Package ble is the feed of BLE detections: the fields of a detection's payload, and the
// way of detections, window results and changes of an asset's state to OCSF events.
package ble
