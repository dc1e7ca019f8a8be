package pipeline

import (
	"fmt"
	"math"
)

// Version packs what orders two rows of the same (operator, key, window): lineage in the
// upper 16 bits, epoch in the next 32, revision in the lower 16. The larger version wins.
// What does not fit is an error: a version that wrapped around would let an old row win.
func Version(lineage uint16, epoch int64, revision int32) (uint64, error) {
	if epoch < 0 || epoch > math.MaxUint32 {
		return 0, fmt.Errorf("row version: epoch %d is outside 0..%d: start a new lineage with a replay or a fork", epoch, uint32(math.MaxUint32))
	}
	if revision < 0 || revision > math.MaxUint16 {
		return 0, fmt.Errorf("row version: revision %d is outside 0..%d: a window was corrected too often, lower its allowed lateness or coalesce its late firings", revision, math.MaxUint16)
	}
	return uint64(lineage)<<48 | uint64(epoch)<<16 | uint64(revision), nil
}
