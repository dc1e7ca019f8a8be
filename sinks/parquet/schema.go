package parquet

import (
	"fmt"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	pq "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"github.com/tidemark/tidemark/pipeline"
)

// Columns that the sink adds, and the one that it replaces.
const (
	colRevision = "_tm_revision"
	colVersion  = "_tm_ver"
	colLineage  = "_tm_lineage"
	colEpoch    = "_tm_epoch"
	// colDeleted is a column of rows that can be withdrawn. It is written like any other.
	colDeleted = "_tm_del"
)

// maxDepth bounds the nesting of a schema.
const maxDepth = 32

// shape is one Arrow field as Parquet sees it. Levels are absolute.
type shape struct {
	name     string
	typ      arrow.DataType
	nullable bool
	index    int // of the field in its parent
	leaf     int // column number; -1 for groups
	children []*shape
	// def is the definition level of a value that is there, of a list that has an element.
	// rep is the repetition level of a second element.
	def, rep byte
	leafType // leaves only
}

// group is a Parquet group whose fields keep their order; the library sorts them by name.
type group struct {
	pq.Group
	fields []pq.Field
}

func (g group) Fields() []pq.Field { return g.fields }

// newGroup takes its fields one by one.
func (g *group) add(name string, node pq.Node) {
	if g.Group == nil {
		g.Group = pq.Group{}
	}
	g.Group[name] = node
	one := pq.Group{name: node}
	g.fields = append(g.fields, one.Fields()[0])
}

// compile translates an Arrow schema. It returns the fields without _tm_revision, whose
// index comes third, or -1. In the layout security_lake the columns of the engine are left
// out, and those of the sink too.
func compile(cfg Config, schema *arrow.Schema) (*pq.Schema, []*shape, int, error) {
	var root group
	var fields []*shape
	revision, leaves := -1, 0
	seen := map[string]bool{colVersion: true, colLineage: true, colEpoch: true}
	for i, f := range schema.Fields() {
		if cfg.Layout == LayoutLake && strings.HasPrefix(f.Name, "_tm_") {
			continue
		}
		if f.Name == colRevision {
			if f.Type.ID() != arrow.INT32 {
				return nil, nil, 0, fmt.Errorf("column %s: type %s, want int32", f.Name, f.Type)
			}
			revision = i
			continue
		}
		if f.Name == colDeleted && (f.Type.ID() != arrow.BOOL || f.Nullable) {
			return nil, nil, 0, fmt.Errorf("column %s: type %s, nullable %t, want bool without nulls", f.Name, f.Type, f.Nullable)
		}
		if seen[f.Name] {
			return nil, nil, 0, fmt.Errorf("column %s: the name is taken, by another column or by the sink", f.Name)
		}
		seen[f.Name] = true
		node, s, err := compileField(f, i, 0, 0, 0, &leaves)
		if err != nil {
			return nil, nil, 0, fmt.Errorf("column %w", err)
		}
		root.add(f.Name, node)
		fields = append(fields, s)
	}
	if len(fields) == 0 {
		return nil, nil, 0, fmt.Errorf("schema of table %s has no columns", cfg.Table)
	}
	if cfg.Layout == LayoutLake {
		return pq.NewSchema(segment(cfg.Table), root), fields, revision, nil
	}
	root.add(colVersion, pq.Uint(64))
	root.add(colLineage, pq.Int(32))
	root.add(colEpoch, pq.Int(64))
	return pq.NewSchema(segment(cfg.Table), root), fields, revision, nil
}

func compileField(f arrow.Field, index, depth int, def, rep byte, leaves *int) (pq.Node, *shape, error) {
	if f.Name == "" {
		return nil, nil, fmt.Errorf("%q: a column needs a name", f.Name)
	}
	if depth == maxDepth {
		return nil, nil, fmt.Errorf("%s: nested more than %d levels deep", f.Name, maxDepth)
	}
	s := &shape{name: f.Name, typ: f.Type, nullable: f.Nullable, index: index, leaf: -1, rep: rep}
	if f.Nullable {
		def++
	}
	var node pq.Node
	switch t := f.Type.(type) {
	case *arrow.StructType:
		if t.NumFields() == 0 {
			return nil, nil, fmt.Errorf("%s: Parquet has no struct without fields", f.Name)
		}
		var g group
		for i, cf := range t.Fields() {
			child, cs, err := compileField(cf, i, depth+1, def, rep, leaves)
			if err != nil {
				return nil, nil, fmt.Errorf("%s.%w", f.Name, err)
			}
			if _, dup := g.Group[cf.Name]; dup {
				return nil, nil, fmt.Errorf("%s.%s: the name is taken", f.Name, cf.Name)
			}
			g.add(cf.Name, child)
			s.children = append(s.children, cs)
		}
		node, s.def = g, def
	case *arrow.ListType:
		def++ // the element is there
		s.def, s.rep = def, rep+1
		elem := t.ElemField()
		child, cs, err := compileField(arrow.Field{Name: "element", Type: elem.Type, Nullable: elem.Nullable, Metadata: elem.Metadata}, 0, depth+1, def, rep+1, leaves)
		if err != nil {
			return nil, nil, fmt.Errorf("%s.%w", f.Name, err)
		}
		node, s.children = pq.List(child), []*shape{cs}
	case *arrow.MapType:
		if t.KeyType().ID() != arrow.STRING || t.ItemType().ID() != arrow.STRING {
			return nil, nil, fmt.Errorf("%s: type %s, want map<string, string>", f.Name, t)
		}
		def++
		s.def, s.rep = def, rep+1
		key, ks, err := compileField(arrow.Field{Name: "key", Type: t.KeyType()}, 0, depth+1, def, rep+1, leaves)
		if err != nil {
			return nil, nil, fmt.Errorf("%s.%w", f.Name, err)
		}
		value, vs, err := compileField(arrow.Field{Name: "value", Type: t.ItemType(), Nullable: t.ItemField().Nullable}, 1, depth+1, def, rep+1, leaves)
		if err != nil {
			return nil, nil, fmt.Errorf("%s.%w", f.Name, err)
		}
		node, s.children = pq.Map(key, value), []*shape{ks, vs}
	default:
		var err error
		if node, s.leafType, err = leafNode(f); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		s.def, s.leaf = def, *leaves
		*leaves++
	}
	if f.Nullable {
		node = pq.Optional(node)
	}
	return node, s, nil
}

// leafNode returns the Parquet type of a leaf and how to write it.
func leafNode(f arrow.Field) (pq.Node, leafType, error) {
	switch f.Type.ID() {
	case arrow.INT8:
		return pq.Int(8), leafOf(smallInt[int8], (*array.Int8).Int8Values), nil
	case arrow.INT16:
		return pq.Int(16), leafOf(smallInt[int16], (*array.Int16).Int16Values), nil
	case arrow.INT32:
		return pq.Int(32), leafOf(pq.Int32Value, (*array.Int32).Int32Values), nil
	case arrow.INT64:
		scale, err := pipeline.ScaleOf(f)
		if err != nil {
			return nil, leafType{}, err
		}
		if scale > 0 {
			return pq.Decimal(scale, 18, pq.Int64Type), leafOf(pq.Int64Value, (*array.Int64).Int64Values), nil
		}
		return pq.Int(64), leafOf(pq.Int64Value, (*array.Int64).Int64Values), nil
	case arrow.UINT8:
		return pq.Uint(8), leafOf(smallInt[uint8], (*array.Uint8).Uint8Values), nil
	case arrow.UINT16:
		return pq.Uint(16), leafOf(smallInt[uint16], (*array.Uint16).Uint16Values), nil
	case arrow.UINT32:
		return pq.Uint(32), leafOf(smallInt[uint32], (*array.Uint32).Uint32Values), nil
	case arrow.UINT64:
		return pq.Uint(64), leafOf(wideInt[uint64], (*array.Uint64).Uint64Values), nil
	case arrow.FLOAT32:
		return pq.Leaf(pq.FloatType), leafOf(pq.FloatValue, (*array.Float32).Float32Values), nil
	case arrow.FLOAT64:
		return pq.Leaf(pq.DoubleType), leafOf(pq.DoubleValue, (*array.Float64).Float64Values), nil
	case arrow.BOOL:
		return pq.Leaf(pq.BooleanType), leafOf[*array.Boolean](pq.BooleanValue, nil), nil
	case arrow.TIMESTAMP:
		unit := pq.Microsecond
		switch f.Type.(*arrow.TimestampType).Unit {
		case arrow.Microsecond:
		case arrow.Millisecond:
			unit = pq.Millisecond
		default:
			return nil, leafType{}, fmt.Errorf("type %s, want timestamp[us] or timestamp[ms]", f.Type)
		}
		return pq.Timestamp(unit), leafOf(wideInt[arrow.Timestamp], (*array.Timestamp).TimestampValues), nil
	case arrow.STRING:
		return pq.Encoded(pq.String(), &pq.RLEDictionary), leafOf[*array.String](stringValue, nil), nil
	case arrow.BINARY:
		return pq.Leaf(pq.ByteArrayType), leafOf[*array.Binary](pq.ByteArrayValue, nil), nil
	}
	return nil, leafType{}, fmt.Errorf("type %s has no Parquet column here: convert it before the sink", f.Type)
}

func codecOf(name string) (compress.Codec, error) {
	switch name {
	case "zstd":
		return &pq.Zstd, nil
	case "snappy":
		return &pq.Snappy, nil
	case "none":
		return &pq.Uncompressed, nil
	}
	return nil, fmt.Errorf("codec %q: want zstd, snappy or none", name)
}
