package parquet

import (
	"fmt"
	"path"
	"strings"

	"github.com/tidemark/tidemark/pipeline"
)

const (
	stagingDir = "_tidemark/staging"
	logDir     = "_tidemark/log"
	headDir    = "_tidemark/head"
)

// segment makes one path segment of any text: bytes other than letters, digits, '_', '-'
// and '.' are percent-encoded, and so is a '.' in front.
func segment(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

// folder returns the table's folder, each level encoded.
func folder(table string) string {
	levels := strings.Split(table, "/")
	for i, l := range levels {
		levels[i] = segment(l)
	}
	return path.Join(levels...)
}

// stagingPrefix begins the names of all staged objects of a job and table.
func (c Config) stagingPrefix() string {
	return fmt.Sprintf("%s/%s/%s/", stagingDir, segment(c.Job), segment(c.Table))
}

// stagingName names the nth staged object of an epoch. run makes it unlike any name that
// another process, perhaps one that is thought dead, can write to.
func (c Config) stagingName(e pipeline.Epoch, n int, run string) string {
	return fmt.Sprintf("%s%d/%d-%d-%s.inprogress", c.stagingPrefix(), e.Lineage, e.N, n, run)
}

// finalName names the nth file of an epoch in its partition.
func (c Config) finalName(partition int64, account string, e pipeline.Epoch, n int) string {
	return path.Join(c.root(), c.place(partition, account),
		fmt.Sprintf("part-%s-%d-%d-%d.parquet", segment(c.Job), e.Lineage, e.N, n))
}

// logPrefix begins the names of the manifest entries of a table.
func (c Config) logPrefix() string { return fmt.Sprintf("%s/%s/", logDir, segment(c.Table)) }

// logName names the manifest entry of an epoch. In byte order of the names, entries come
// in the order of lineage and epoch, which have as many digits always.
func (c Config) logName(lineage uint16, epoch int64) string {
	return fmt.Sprintf("%s%05d-%010d-%s.json", c.logPrefix(), lineage, epoch, segment(c.Job))
}

// ownEntry tells whether a manifest entry is of this job; others may write the table too.
func (c Config) ownEntry(name string) bool {
	const number = len("00000-0000000000-")
	rest := strings.TrimPrefix(name, c.logPrefix())
	return len(rest) > number && rest[number:] == segment(c.Job)+".json"
}

// headName names the object that says which manifest entry is the last.
func (c Config) headName() string {
	return fmt.Sprintf("%s/%s/%s.json", headDir, segment(c.Table), segment(c.Job))
}

func (c Config) hivePath(partition int64) string {
	if c.PartitionBy == pipeline.PartitionNone {
		return ""
	}
	var day, hour string
	switch partition {
	case pipeline.NullPartition:
		day, hour = "__null__", "__null__"
	case pipeline.EarlyPartition, pipeline.FarPartition:
		day, hour = "__far__", "__far__"
	default:
		start := c.PartitionBy.Start(partition)
		day, hour = start.Format("2006-01-02"), start.Format("15")
	}
	if c.PartitionBy == pipeline.PartitionDay {
		return "dt=" + day
	}
	return "dt=" + day + "/hour=" + hour
}
