package main

// AssetsConfig is section assets of a job.
type AssetsConfig struct{}

func (c *AssetsConfig) feed() string            { return "ble" }
func (c *AssetsConfig) Validate() error         { return nil }
func (c *AssetsConfig) domain(_ *Config) domain { return domain{} }
