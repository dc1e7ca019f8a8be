package ocsf

import (
	"fmt"
	"strconv"
	"strings"
)

// Observable is an attribute that an event lists among its observables.
type Observable struct {
	name  string
	parts []string
	typ   string // type_id and type, in JSON form
}

// Observable returns the rule that lists the attribute at a dotted path of a class among the
// observables. The type follows from that of the attribute when typeID is 0.
func (s *Schema) Observable(class int64, name string, typeID int64) (Observable, error) {
	o := Observable{name: name, parts: strings.Split(name, ".")}
	a, err := s.attribute(class, o.parts)
	if err != nil {
		return o, err
	}
	if a.object != nil {
		return o, fmt.Errorf("%s is an object: name one of its attributes", name)
	}
	types, err := s.attribute(class, []string{"observables", "type_id"})
	if err != nil {
		return o, err
	}
	if typeID == 0 {
		typeID, _ = parseInt([]byte(types.keyOf([]byte(observableType(a.typ.name)))))
	}
	key := strconv.FormatInt(typeID, 10)
	e, ok := types.enum[key]
	if typeID == 0 || !ok {
		return o, fmt.Errorf("%s is %s, of which OCSF %s has no type of observables: say type_id", name, a.typ.name, s.facts.Version)
	}
	o.typ = string(appendQuoted([]byte(`"type_id":`+key+`,"type":`), e.Caption))
	return o, nil
}

// observableType is the caption of the type of observables for a type of the dictionary.
func observableType(name string) string {
	switch name {
	case "hostname_t":
		return "Hostname"
	case "ip_t":
		return "IP Address"
	case "mac_t":
		return "MAC Address"
	case "username_t":
		return "User Name"
	case "email_t":
		return "Email Address"
	case "url_t":
		return "URL String"
	case "file_name_t":
		return "File Name"
	case "file_hash_t":
		return "Hash"
	case "process_name_t":
		return "Process Name"
	case "resource_uid_t":
		return "Resource UID"
	case "port_t":
		return "Port"
	case "subnet_t":
		return "Subnet"
	}
	return ""
}

// attribute finds the attribute at a path of a class, through lists of objects too.
func (s *Schema) attribute(class int64, parts []string) (*attr, error) {
	it := s.classes[class]
	if it == nil {
		return nil, fmt.Errorf("OCSF %s has no class %d", s.facts.Version, class)
	}
	for i, part := range parts {
		at, ok := it.index[part]
		if !ok {
			return nil, fmt.Errorf("%s has no attribute %s in OCSF %s", it.name, part, s.facts.Version)
		}
		a := &it.attrs[at]
		if i == len(parts)-1 {
			return a, nil
		}
		if it = a.object; it == nil {
			return nil, fmt.Errorf("%s is no object", strings.Join(parts[:i+1], "."))
		}
	}
	return nil, fmt.Errorf("no attribute is named")
}

// addObservables writes the observables of the record and those of the origin's rules.
func (c *Conformer) addObservables(base int) {
	at := c.plan.observables
	if at < 0 || !c.plan.class.attrs[at].active(c.on) {
		return
	}
	start := c.here()
	c.member(c.plan.class, at)
	list := c.begin('[')
	empty := len(c.out)
	was := c.enter("observables")
	if n := c.slots[base+int(at)]; n > 0 {
		c.ownObservables(&c.plan.class.attrs[at], n)
	}
	c.leave(was)
	for i := range c.at.Observables {
		c.observe(&c.at.Observables[i])
	}
	if len(c.out) == empty {
		c.cut(start)
		return
	}
	c.end(list)
	c.slots[base+int(at)] = written
}

// ownObservables writes the observables of the record whose name leads to an attribute.
func (c *Conformer) ownObservables(a *attr, n int32) {
	i := 0
	for e := c.elements(n); e != 0; e = c.doc.nodes[e].next {
		was := c.enterElement(i)
		i++
		name := c.doc.member(e, "name")
		if c.doc.nodes[e].kind != '{' {
			c.move(e, "want an object")
		} else if name >= 0 && c.doc.nodes[name].kind != 'n' && !c.plan.class.leads(c.doc.text(&c.doc.nodes[name]), c.on) {
			c.move(e, "its name is no attribute")
		} else {
			start := c.here()
			if c.comma(); !c.value(a, e) {
				c.cut(start)
			}
		}
		c.leave(was)
	}
}

// observe writes an observable if the event has the attribute: one for each value of a list.
func (c *Conformer) observe(o *Observable) {
	n := int32(0)
	for _, part := range o.parts {
		if n = c.doc.member(n, part); n < 0 {
			return
		}
	}
	if !c.plan.class.leads([]byte(o.name), c.on) || c.hasMoved(o.name) {
		return
	}
	if c.doc.nodes[n].kind != '[' {
		c.observable(o, n)
		return
	}
	for e := c.doc.nodes[n].first; e != 0; e = c.doc.nodes[e].next {
		c.observable(o, e)
	}
}

func (c *Conformer) observable(o *Observable, n int32) {
	v := &c.doc.nodes[n]
	if v.kind == 'n' || v.kind == '{' || v.kind == '[' {
		return
	}
	c.comma()
	c.out = append(c.out, `{"name":`...)
	c.out = append(appendQuoted(c.out, o.name), ',')
	c.out = append(append(c.out, o.typ...), `,"value":"`...)
	c.out = append(append(c.out, c.doc.b[v.text[0]:v.text[1]]...), `"}`...)
	c.wrote()
}

// hasMoved tells whether the value at a path, or what it is in, went to unmapped.
func (c *Conformer) hasMoved(path string) bool {
	for _, m := range c.moved[c.given:] {
		if p := c.text[m.path[0]:m.path[1]]; string(p) == path || strings.HasPrefix(string(p), path+"[") {
			return true
		}
	}
	return false
}
