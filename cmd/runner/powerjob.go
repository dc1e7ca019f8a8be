package main

// PowerConfig is section power of a job.
type PowerConfig struct{}

func (c *PowerConfig) feed() string            { return "pdu" }
func (c *PowerConfig) Validate() error         { return nil }
func (c *PowerConfig) domain(_ *Config) domain { return domain{} }
