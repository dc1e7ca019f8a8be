package clickhouse

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/tidemark/tidemark/pipeline"
)

// Columns that the sink adds, and the one that it replaces. _tm_del is a column of rows that
// can be withdrawn; the table always has it.
const (
	colRevision = "_tm_revision"
	colVersion  = "_tm_ver"
	colDeleted  = "_tm_del"
	colLineage  = "_tm_lineage"
	colEpoch    = "_tm_epoch"
	colBlock    = "_tm_block"
)

// maxDepth bounds the nesting of a schema.
const maxDepth = 32

// shape says how a column is stored.
type shape uint8

const (
	flat     shape = iota
	arrays         // list of flat values
	labels         // map<string, string>
	jsonText       // any other list
)

// column is one column of the table: a field of the schema, flattened.
type column struct {
	name     string
	typ      string // ClickHouse type
	codec    string
	shape    shape
	path     []int // of indexes from the schema down
	field    arrow.Field
	nullable bool // in ClickHouse
	low      bool // LowCardinality
	scale    int
	// required says for each level of path that it allows no null.
	required []bool
	// sealed is the Arrow type in which it waits in the store.
	sealed arrow.DataType
}

// ownColumns are the indexes of the columns that the sink reads itself, -1 for none.
type ownColumns struct {
	revision int // _tm_revision, int32
	deleted  int // _tm_del, bool: the row withdraws those of its sort key
}

// columnsOf flattens a schema.
func columnsOf(cfg Config, schema *arrow.Schema) (cols []column, own ownColumns, err error) {
	own = ownColumns{-1, -1}
	taken := map[string]bool{colVersion: true, colDeleted: true, colLineage: true, colEpoch: true, colBlock: true}
	for i, f := range schema.Fields() {
		if f.Name == colRevision {
			if f.Type.ID() != arrow.INT32 {
				return nil, own, fmt.Errorf("column %s: type %s, want int32", f.Name, f.Type)
			}
			own.revision = i
			continue
		}
		if f.Name == colDeleted {
			switch {
			case f.Type.ID() != arrow.BOOL:
				return nil, own, fmt.Errorf("column %s: type %s, want bool", f.Name, f.Type)
			case cfg.Append:
				return nil, own, fmt.Errorf("column %s: a table that only grows cannot delete: set append to false", f.Name)
			}
			own.deleted = i
			continue
		}
		if cols, err = flatten(cols, cfg, column{name: f.Name, path: []int{i}, field: f}, false); err != nil {
			return nil, own, err
		}
	}
	for _, c := range cols {
		if taken[c.name] {
			return nil, own, fmt.Errorf("column %s: the name is taken, by another column or by the sink", c.name)
		}
		taken[c.name] = true
	}
	for _, name := range cfg.LowCardinality {
		if !slices.ContainsFunc(cols, func(c column) bool { return c.name == name && c.low }) {
			return nil, own, fmt.Errorf("low_cardinality: %q is not a string column of the table", name)
		}
	}
	return cols, own, nil
}

// flatten appends the columns of one field. c comes with name, path and field.
func flatten(cols []column, cfg Config, c column, nullable bool) ([]column, error) {
	f := c.field
	last := c.name[strings.LastIndexByte(c.name, '.')+1:]
	if !plainName.MatchString(last) {
		return nil, fmt.Errorf("column %q: want letters, digits and underscores: rename the field", c.name)
	}
	if len(c.path) > maxDepth {
		return nil, fmt.Errorf("column %s: nested more than %d levels deep", c.name, maxDepth)
	}
	nullable = nullable || f.Nullable
	c.required = append(c.required[:len(c.required):len(c.required)], !f.Nullable)
	if s, ok := f.Type.(*arrow.StructType); ok {
		if s.NumFields() == 0 {
			return nil, fmt.Errorf("column %s: a struct without fields has no columns", c.name)
		}
		for i, cf := range s.Fields() {
			child := c
			child.name = c.name + "." + cf.Name
			child.path = append(c.path[:len(c.path):len(c.path)], i)
			child.field = cf
			var err error
			if cols, err = flatten(cols, cfg, child, nullable); err != nil {
				return nil, err
			}
		}
		return cols, nil
	}
	c.nullable = nullable
	if err := c.setType(cfg); err != nil {
		return nil, fmt.Errorf("column %s: %w", c.name, err)
	}
	return append(cols, c), nil
}

func (c *column) setType(cfg Config) error {
	c.codec = "ZSTD(1)"
	c.sealed = c.field.Type
	switch t := c.field.Type.(type) {
	case *arrow.ListType:
		inner, _, err := flatType(t.ElemField())
		if err != nil || len(c.path) > 1 {
			if err := pipeline.CheckJSON(c.field); err != nil {
				return err
			}
			c.shape, c.sealed = jsonText, arrow.BinaryTypes.String
			break
		}
		c.shape, c.nullable = arrays, false
		if t.ElemField().Nullable {
			inner = "Nullable(" + inner + ")"
		}
		c.typ = "Array(" + inner + ")"
		return nil
	case *arrow.MapType:
		if t.KeyType().ID() != arrow.STRING || t.ItemType().ID() != arrow.STRING {
			return fmt.Errorf("type %s, want map<string, string>", t)
		}
		c.shape, c.nullable, c.typ = labels, false, "Map(String, String)"
		return nil
	}
	var err error
	if c.shape == jsonText {
		c.typ = "String"
	} else if c.typ, c.scale, err = flatType(c.field); err != nil {
		return err
	}
	switch c.field.Type.ID() {
	case arrow.TIMESTAMP:
		c.codec = "Delta, ZSTD(1)"
	case arrow.INT8, arrow.INT16, arrow.INT32, arrow.INT64, arrow.UINT8, arrow.UINT16, arrow.UINT32, arrow.UINT64:
		c.codec = "T64, ZSTD(1)"
		if c.name == cfg.TimeColumn {
			c.codec = "Delta, ZSTD(1)"
		}
	}
	if c.nullable {
		c.typ = "Nullable(" + c.typ + ")"
	}
	if c.field.Type.ID() == arrow.STRING && slices.Contains(cfg.LowCardinality, c.name) {
		c.low, c.typ = true, "LowCardinality("+c.typ+")"
	}
	return nil
}

// flatType returns the ClickHouse type of a plain value, and its scale.
func flatType(f arrow.Field) (typ string, scale int, err error) {
	switch f.Type.ID() {
	case arrow.INT8:
		return "Int8", 0, nil
	case arrow.INT16:
		return "Int16", 0, nil
	case arrow.INT32:
		return "Int32", 0, nil
	case arrow.INT64:
		scale, err := pipeline.ScaleOf(f)
		if err != nil || scale == 0 {
			return "Int64", 0, err
		}
		return fmt.Sprintf("Decimal(18, %d)", scale), scale, nil
	case arrow.UINT8:
		return "UInt8", 0, nil
	case arrow.UINT16:
		return "UInt16", 0, nil
	case arrow.UINT32:
		return "UInt32", 0, nil
	case arrow.UINT64:
		return "UInt64", 0, nil
	case arrow.FLOAT32:
		return "Float32", 0, nil
	case arrow.FLOAT64:
		return "Float64", 0, nil
	case arrow.BOOL:
		return "Bool", 0, nil
	case arrow.TIMESTAMP:
		switch f.Type.(*arrow.TimestampType).Unit {
		case arrow.Microsecond:
			return "DateTime64(6, 'UTC')", 0, nil
		case arrow.Millisecond:
			return "DateTime64(3, 'UTC')", 0, nil
		}
		return "", 0, fmt.Errorf("type %s, want timestamp[us] or timestamp[ms]", f.Type)
	case arrow.STRING, arrow.BINARY:
		return "String", 0, nil
	}
	return "", 0, fmt.Errorf("type %s has no ClickHouse column here: convert it before the sink", f.Type)
}

// sealedSchema is the schema of the sealed blocks: the columns, then _tm_ver, then _tm_del
// when rows can be withdrawn.
func sealedSchema(cols []column, own ownColumns) *arrow.Schema {
	fields := make([]arrow.Field, 0, len(cols)+2)
	for _, c := range cols {
		fields = append(fields, arrow.Field{Name: c.name, Type: c.sealed, Nullable: c.nullable})
	}
	fields = append(fields, arrow.Field{Name: colVersion, Type: arrow.PrimitiveTypes.Uint64})
	if own.deleted >= 0 {
		fields = append(fields, arrow.Field{Name: colDeleted, Type: arrow.PrimitiveTypes.Uint8})
	}
	return arrow.NewSchema(fields, nil)
}
