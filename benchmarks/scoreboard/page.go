package main

import (
	"fmt"
	"strings"
)

// page is RELIABILITY.md.
func (b board) page() string {
	var p strings.Builder
	line := func(name, value string) { fmt.Fprintf(&p, "%s: %s\n", name, value) }
	figures := func(names []string) {
		for _, name := range names {
			v, _ := b.total(name)
			line(name, number(v))
		}
	}
	figures(first)
	line("commit", b.commit)
	figures(more)
	line("mode", b.mode)
	line("date", b.date)
	p.WriteString(intro)
	p.WriteString("\n| Rig | What it shows | Figures | Command | Seeds | Commit |\n|---|---|---|---|---|---|\n")
	for _, r := range b.results {
		cells := []string{r.rig.name, r.rig.proves, r.figures(), "`" + r.rig.command(b.mode == "nightly") + "`", r.rig.seeds, r.commit[:min(len(r.commit), 12)]}
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(c, "|", `\|`)
		}
		fmt.Fprintf(&p, "| %s |\n", strings.Join(cells, " | "))
	}
	return p.String()
}

const intro = `
# Reliability

Written by ` + "`make reliability`" + ` (mode quick) or ` + "`make nightly`" + ` (mode nightly), never by hand. The commit
is the one under test; a gate that was interrupted goes on, so that a rig may have passed on an earlier one,
which stands in its row. The page is written only when every rig passes, nothing was lost,
there twice or wrong, and every negative control failed.

A negative control takes one defence away: no sync of a folder, a random token, blocks cut
again after a restart. The rig must notice; else it would prove nothing. kills counts deaths
by SIGKILL, real or at a named step; crash_states power losses of a simulated disk;
recovery_p95_s is the larger of two rigs', from the start of a process to its first new row;
memory_ceiling_mib the peak of the heap while a sink stalled.
`
