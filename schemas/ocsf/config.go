package ocsf

import (
	"errors"
	"fmt"
)

// Dialect says which classes events have.
type Dialect string

const (
	Core Dialect = "core" // published classes only; numbers of telemetry are in unmapped
	Ext  Dialect = "ext"  // classes of our extension where one says more
)

// ExtensionUID is the uid that our extension has unless a site gives it another one. It is
// provisional: the extension is not registered.
const ExtensionUID = 988

// Name and version of our extension, as its extension.json has them.
const (
	extensionName    = "tidemark"
	extensionVersion = "0.1.0"
)

// Config is what every mapper needs to know of the job.
type Config struct {
	Topic          string // metadata.log_name
	Version        Version
	Dialect        Dialect
	ExtensionUID   int32  // of the classes of dialect ext, 1 to 999
	ProductVersion string // metadata.product.version: Tidemark's own
	Feature        string // metadata.product.feature.name: the job or operator
}

// DefaultConfig lacks Topic and ProductVersion.
func DefaultConfig() Config {
	return Config{Version: V130, Dialect: Core, ExtensionUID: ExtensionUID, Feature: "normalize"}
}

// Validate returns every problem.
func (c Config) Validate() error {
	errs := []error{c.Version.Validate(), c.Dialect.Validate()}
	if c.ExtensionUID < 1 || c.ExtensionUID > 999 {
		errs = append(errs, fmt.Errorf("ocsf extension_uid %d: want 1 to 999", c.ExtensionUID))
	}
	for _, s := range [...]struct{ name, value string }{
		{"topic", c.Topic}, {"product_version", c.ProductVersion}, {"feature", c.Feature},
	} {
		if s.value == "" {
			errs = append(errs, fmt.Errorf("ocsf %s: must not be empty", s.name))
		}
	}
	return errors.Join(errs...)
}

// Validate tells whether d is known.
func (d Dialect) Validate() error {
	switch d {
	case Core, Ext:
		return nil
	}
	return fmt.Errorf("ocsf dialect %q: want core or ext", string(d))
}

// DefaultVersion is the version that a dialect has unless the job names one. Of core that
// is the highest that Amazon Security Lake takes; it takes no classes of extensions, so ext
// has the newest.
func (d Dialect) DefaultVersion() Version {
	if d == Ext {
		return V180
	}
	return V130
}
