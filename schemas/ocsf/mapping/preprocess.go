package mapping

import (
	"bytes"
	"strconv"
)

// sysmon turns the member Description of the event at root, if it is text, into an object:
// a member for every line NAME: VALUE. Another line that is not empty is Line<n>, where n is
// the number of members so far and one.
func (d *document) sysmon(root int32) string {
	if d.nodes[root].kind != object {
		return "the event is no object"
	}
	at := d.member(root, "Description")
	if at < 0 || d.nodes[at].kind != text {
		return ""
	}
	var (
		lines = d.nodes[at].text
		seen  = names{d: d}
		prev  int32
	)
	d.nodes[at].kind, d.nodes[at].first = object, 0
	for from, more := lines.from, true; more; {
		line := span{from, lines.to}
		if n := bytes.Index(d.bytes(line), []byte("\r\n")); n >= 0 {
			line.to = from + int32(n)
			from = line.to + 2
		} else {
			more = false
		}
		if line.from == line.to {
			continue
		}
		child := node{kind: text, text: line}
		if n := bytes.Index(d.bytes(line), []byte(": ")); n >= 0 {
			child.name = span{line.from, line.from + int32(n)}
			child.text.from = child.name.to + 2
		} else {
			child.name = d.append("Line", strconv.Itoa(len(seen.nodes)+1))
		}
		n := int32(len(d.nodes))
		d.nodes = append(d.nodes, child)
		d.link(at, prev, n)
		seen.put(n)
		prev = n
	}
	return ""
}

// rawData makes what was read the only member of an object.
func (d *document) rawData() {
	d.nodes = append(d.nodes[:0], node{kind: object, first: 1})
	d.nodes = append(d.nodes, node{kind: text, text: span{0, int32(d.end)}, name: d.append("rawData")})
}

// albFields are the fields of a line, in order.
var albFields = [...]string{
	"type", "time", "elb", "client:port", "target:port", "request_processing_time", "target_processing_time",
	"response_processing_time", "elb_status_code", "target_status_code", "received_bytes", "sent_bytes", "request",
	"user_agent", "ssl_cipher", "ssl_protocol", "target_group_arn", "trace_id", "domain_name", "chosen_cert_arn",
	"matched_rule_priority", "request_creation_time", "actions_executed", "redirect_url", "error_reason",
	"target:port_list", "target_status_code_list", "classification", "classification_reason", "conn_trace_id",
}

// alb makes an object of the fields of a load balancer's line, which is the bytes of s. All
// values are text. A field that is absent is "-" under its own name.
func (d *document) alb(s span) {
	d.json = false
	d.nodes = append(d.nodes[:0], node{kind: object})
	dash := d.append("-")
	at := s.from
	for _, field := range albFields {
		var value span
		if value, at = d.albField(at, s.to); value.from < 0 {
			d.field(field, dash)
			continue
		}
		absent := string(d.bytes(value)) == "-"
		switch field {
		case "client:port", "target:port":
			name := field[:len("client")]
			host, port := dash, dash
			if colon := bytes.LastIndexByte(d.bytes(value), ':'); colon >= 0 {
				host, port = d.cut(value, colon)
			}
			d.field(name+"_ip", host)
			d.field(name+"_port", port)
		case "target:port_list":
			hosts, ports := dash, dash
			if !absent {
				hosts, ports = d.albTargets(value, dash)
			}
			d.field("target_ip_list", hosts)
			d.field("target_port_list", ports)
		case "request":
			d.albRequest(value, absent)
		default:
			d.field(field, value)
		}
	}
}

// field adds a member to node 0. No name occurs twice.
func (d *document) field(name string, value span) {
	n := int32(len(d.nodes))
	d.nodes = append(d.nodes, node{kind: text, text: value, name: d.append(name)})
	d.link(0, n-1, n)
}

// cut returns what is before and behind byte i of s.
func (d *document) cut(s span, i int) (before, behind span) {
	return span{s.from, s.from + int32(i)}, span{s.from + int32(i) + 1, s.to}
}

// albField returns the next field before end, without quotes at its ends, and where it ends.
// Blanks separate fields, but not inside quotes. A quote that nothing closes is skipped.
func (d *document) albField(p, end int32) (span, int32) {
	for p < end {
		from := p
		for p < end {
			if d.b[p] == '"' {
				closed := bytes.IndexByte(d.b[p+1:end], '"')
				if closed < 0 {
					break
				}
				p += int32(closed) + 2
				continue
			}
			r, n := decodeRune(d.b[p:end])
			if isSpace(r) {
				break
			}
			p += int32(n)
		}
		if p == from {
			_, n := decodeRune(d.b[p:end])
			p += int32(n)
			continue
		}
		s := span{from, p}
		for s.from < s.to && d.b[s.from] == '"' {
			s.from++
		}
		for s.from < s.to && d.b[s.to-1] == '"' {
			s.to--
		}
		return s, p
	}
	return span{-1, -1}, p
}

// albTargets splits HOST:PORT HOST:PORT … at blanks, each at its last colon, into the hosts
// and the ports. If one has no colon both are absent.
func (d *document) albTargets(s, absent span) (hosts, ports span) {
	list := bytes.FieldsFunc(d.bytes(s), isSpace)
	hosts.from = int32(len(d.b))
	for i, target := range list {
		colon := bytes.LastIndexByte(target, ':')
		if colon < 0 {
			return absent, absent
		}
		if i > 0 {
			d.b = append(d.b, ' ')
		}
		d.b = append(d.b, target[:colon]...)
	}
	hosts.to = int32(len(d.b))
	ports.from = hosts.to
	for i, target := range list {
		if i > 0 {
			d.b = append(d.b, ' ')
		}
		d.b = append(d.b, target[bytes.LastIndexByte(target, ':')+1:]...)
	}
	ports.to = int32(len(d.b))
	return hosts, ports
}

// albRequest adds the three words of a request, or the request whole if it has not three.
func (d *document) albRequest(s span, absent bool) {
	words := [3]span{s, s, s}
	if !absent {
		if bytes.Count(d.bytes(s), []byte(" ")) != 2 {
			d.field("request", s)
			return
		}
		var rest span
		words[0], rest = d.cut(s, bytes.IndexByte(d.bytes(s), ' '))
		words[1], words[2] = d.cut(rest, bytes.IndexByte(d.bytes(rest), ' '))
	}
	d.field("request_method", words[0])
	d.field("request_url", words[1])
	d.field("request_protocol", words[2])
}
