package ocsf

import (
	"fmt"
	"strings"
)

// Version is a version of the OCSF schema.
type Version string

// The versions that can be written. 1.3.0 is the highest that Amazon Security Lake takes
// from custom sources.
const (
	V110 Version = "1.1.0"
	V130 Version = "1.3.0"
	V180 Version = "1.8.0"
)

// Versions lists them.
func Versions() []Version { return []Version{V110, V130, V180} }

// Validate tells whether v is one of Versions.
func (v Version) Validate() error {
	switch v {
	case V110, V130, V180:
		return nil
	}
	return fmt.Errorf("ocsf version %q: want 1.1.0, 1.3.0 or 1.8.0", string(v))
}

// Enum is a value of an attribute that comes as a number and a caption.
type Enum struct {
	ID   int32
	Name string
}

// Class is an event class.
type Class struct {
	Enum
	Category Enum
}

// DeviceInventory is the class of devices that exist and what is known of them.
func DeviceInventory() Class {
	return Class{Enum{5001, "Device Inventory Info"}, Enum{5, "Discovery"}}
}

// NetworkActivity is the class of connections and traffic.
func NetworkActivity() Class {
	return Class{Enum{4001, "Network Activity"}, Enum{4, "Network Activity"}}
}

// DetectionFinding is the class of what an analysis found in other events.
func DetectionFinding() Class {
	return Class{Enum{2004, "Detection Finding"}, Enum{2, "Findings"}}
}

// The classes of our extension.
func (c Config) AssetObservation() Class  { return c.extended(1, "Asset Observation") }
func (c Config) DeviceMeasurement() Class { return c.extended(2, "Device Measurement") }
func (c Config) AssetStateChange() Class  { return c.extended(3, "Asset State Change") }

// extended is a class of our extension in category Discovery.
func (c Config) extended(uid int32, name string) Class {
	discovery := DeviceInventory().Category
	return Class{Enum{(c.ExtensionUID*100+discovery.ID)*1000 + uid, name}, discovery}
}

// ofExtension tells whether the class is none of the core, whose numbers are below 100,000.
func (c Class) ofExtension() bool { return c.ID >= 100_000 }

// Activities.
func Collect() Enum   { return Enum{2, "Collect"} }   // of DeviceInventory
func Traffic() Enum   { return Enum{6, "Traffic"} }   // of NetworkActivity
func Detect() Enum    { return Enum{1, "Detect"} }    // of AssetObservation
func Sample() Enum    { return Enum{1, "Sample"} }    // of DeviceMeasurement
func Aggregate() Enum { return Enum{2, "Aggregate"} } // of both

// TypeUID is the number of a class and activity together.
func (c Class) TypeUID(activity Enum) int64 { return int64(c.ID)*100 + int64(activity.ID) }

// TypeName is the caption of TypeUID.
func (c Class) TypeName(activity Enum) string { return c.Name + ": " + typeCaption(activity) }

func typeCaption(activity Enum) string {
	if activity.ID == 99 {
		return "Other"
	}
	return activity.Name
}

// Other is a value that an enum has no number for, with the word of the source. Validators
// suspect one that reads like the caption of 99 itself.
func Other(word string) Enum {
	if word == "Other" {
		word = "other"
	}
	return Enum{99, word}
}

// Informational is the severity of what is no finding.
func Informational() Enum { return Enum{1, "Informational"} }

// Device types.
func IOT() Enum { return Enum{7, "IOT"} }

// DeviceUID is the type of an observable that holds device.uid.
func (v Version) DeviceUID() Enum {
	if v == V180 {
		return Enum{47, "Device Object: uid"}
	}
	return Enum{10, "Resource UID"}
}

// TimeInterval is the type of a timespan between two times; there is none before 1.8.0.
func TimeInterval() Enum { return Enum{9, "Time Interval"} }

// Direction reads the direction of traffic from the words that counters use. A word that
// is not known is Other with itself as caption, none at all is Unknown.
func Direction(word string) Enum {
	switch strings.ToLower(word) {
	case "":
		return Enum{0, "Unknown"}
	case "in", "inbound", "ingress", "rx":
		return Enum{1, "Inbound"}
	case "out", "outbound", "egress", "tx":
		return Enum{2, "Outbound"}
	case "lateral":
		return Enum{3, "Lateral"}
	}
	return Other(word)
}
