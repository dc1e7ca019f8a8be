package schemas

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxIndex bounds array indexes in paths, so that a typo cannot ask for a huge table.
const maxIndex = 1023

// step is one step of a path: a member name, or an array index when index >= 0.
type step struct {
	name  string
	index int
}

// parsePath reads $ (.name | [index] | ['name'])+. The first step is a name, since every
// payload is an object. Names are plain text: quotes, backslashes and control characters
// would be written as escapes in a payload, and are not supported.
func parsePath(path string) ([]step, error) {
	bad := func(why string) ([]step, error) {
		return nil, fmt.Errorf("path %q: %s; write it like $.tag.mac or $.accel_mg[0]", path, why)
	}
	rest, ok := strings.CutPrefix(path, "$")
	if !ok {
		return bad("it does not begin with $")
	}
	var steps []step
	for rest != "" {
		switch {
		case rest[0] == '.':
			n := strings.IndexAny(rest[1:], ".[")
			if n < 0 {
				n = len(rest) - 1
			}
			if n == 0 {
				return bad("a name is missing behind a dot")
			}
			steps = append(steps, step{name: rest[1 : 1+n], index: -1})
			rest = rest[1+n:]
		case strings.HasPrefix(rest, "['"):
			n := strings.Index(rest[2:], "']")
			if n < 0 {
				return bad("a quoted name has no end")
			}
			steps = append(steps, step{name: rest[2 : 2+n], index: -1})
			rest = rest[4+n:]
		case rest[0] == '[':
			n := strings.IndexByte(rest, ']')
			if n < 0 {
				return bad("an index has no end")
			}
			i, err := strconv.ParseUint(rest[1:n], 10, 16)
			if err != nil || i > maxIndex {
				return bad(fmt.Sprintf("index %q is not a number from 0 to %d", rest[1:n], maxIndex))
			}
			steps = append(steps, step{index: int(i)})
			rest = rest[n+1:]
		default:
			return bad("a step begins with . or [")
		}
	}
	if len(steps) == 0 {
		return bad("it names nothing")
	}
	for _, s := range steps {
		if !utf8.ValidString(s.name) || strings.ContainsFunc(s.name, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) {
			return bad("a name holds quotes, backslashes or control characters")
		}
	}
	if steps[0].index >= 0 {
		return bad("a payload is an object, so the first step is a name")
	}
	return steps, nil
}
