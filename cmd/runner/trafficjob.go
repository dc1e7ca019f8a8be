package main

// TrafficConfig is section traffic of a job.
type TrafficConfig struct{}

func (c *TrafficConfig) feed() string            { return "traffic" }
func (c *TrafficConfig) Validate() error         { return nil }
func (c *TrafficConfig) domain(_ *Config) domain { return domain{} }
