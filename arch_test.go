package tidemark_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tidemark/tidemark"

// mayImport is the import graph between our packages: what the files of a package that are
// not tests may import. A package that is not named here does not belong.
var mayImport = map[string][]string{
	"":                      {},
	"pipeline":              {"pipeline/crash"},
	"pipeline/crash":        {},
	"pipeline/pipelinetest": {"pipeline"},
	"pipeline/s3store":      {"pipeline"},
	"operators":             {"pipeline"},
	"operators/assets":      {"pipeline", "operators"},
	"operators/power":       {"pipeline", "operators"},
	"operators/traffic":     {"pipeline", "operators"},
	"schemas":               {},
	"schemas/ocsf":          {"schemas"},
	"schemas/ocsf/gen":      {"schemas/ocsf"},
	"schemas/ocsf/mapping":  {"schemas/ocsf"},
	"schemas/ble":           {"schemas", "schemas/ocsf"},
	"schemas/pdu":           {"schemas", "schemas/ocsf"},
	"schemas/traffic":       {"schemas", "schemas/ocsf"},
	"sources/kafka":         {"pipeline"},
	"sinks/kafka":           {"pipeline", "sources/kafka"},
	"sinks/parquet":         {"pipeline", "pipeline/crash"},
	"sinks/clickhouse":      {"pipeline", "pipeline/crash"},
	"sinks/notify":          {"pipeline"},
	"sinks/decisions":       {"pipeline"},
	"cmd/runner":            {"*"},
	"benchmarks/gen":        {},
	"benchmarks/scoreboard": {},
	"benchmarks/load":       {"benchmarks/gen", "sources/kafka", "sinks/kafka"},
	"benchmarks/replay":     {"*"},
	"benchmarks/w1":         {"*"},
	"benchmarks/windows":    {"pipeline", "operators", "benchmarks/gen"},
}

// onlyIn names libraries that only some packages may import, tests included for none.
var onlyIn = map[string][]string{
	"github.com/segmentio/kafka-go":       {"sources/kafka", "sinks/kafka"},
	"github.com/parquet-go/parquet-go":    {"sinks/parquet", "benchmarks/w1", "benchmarks/replay"},
	"github.com/ClickHouse/clickhouse-go": {"sinks/clickhouse"},
	"github.com/wneessen/go-mail":         {"sinks/notify"},
	"github.com/aws/aws-sdk-go-v2":        {"pipeline/s3store"},
	"github.com/twmb/franz-go":            {"cmd/runner", "benchmarks/w1", "benchmarks/replay"},
	"github.com/prometheus/client_golang": {"pipeline", "cmd/runner"},
	"go.yaml.in/yaml":                     {"cmd/runner"},
	"testing":                             {"pipeline/pipelinetest"},
}

type listed struct {
	ImportPath string
	Name       string
	Dir        string
	Imports    []string
	GoFiles    []string
}

func packages(t *testing.T) []listed {
	out, err := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Imports,GoFiles", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	d := json.NewDecoder(strings.NewReader(string(out)))
	for d.More() {
		var p listed
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("package %s is not in the import graph of arch_test.go", name)
			continue
		}
		for _, imp := range p.Imports {
			if of, ok := strings.CutPrefix(imp, module); ok {
				of = strings.TrimPrefix(of, "/")
				if !slices.Contains(allowed, "*") && !slices.Contains(allowed, of) {
					t.Errorf("%s imports %s: not allowed", name, of)
				}
				if of == "pipeline/pipelinetest" && !strings.HasPrefix(name, "benchmarks/") {
					t.Errorf("%s imports pipelinetest outside its tests", name)
				}
				continue
			}
			for lib, where := range onlyIn {
				if (imp == lib || strings.HasPrefix(imp, lib+"/")) && !slices.Contains(where, name) {
					t.Errorf("%s imports %s: only %v may", name, imp, where)
				}
			}
		}
	}
}

// banned calls, by package: the wall clock and goroutines belong to few places.
func TestBanned(t *testing.T) {
	clock := []string{"time.Now", "time.Sleep", "time.After", "time.Tick", "time.NewTimer", "time.NewTicker"}
	out := []string{"fmt.Print", "fmt.Println", "fmt.Printf", "os.Exit", "log.Print", "log.Println", "log.Printf", "log.Fatal", "log.Fatalf", "prometheus.MustRegister"}
	for _, p := range packages(t) {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		for _, file := range p.GoFiles {
			pure := name == "operators" || strings.HasPrefix(name, "operators/") || strings.HasPrefix(name, "schemas") ||
				name == "pipeline" && file != "run.go" && file != "metrics.go" && !strings.HasPrefix(file, "store")
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					if pure {
						t.Errorf("%s: a goroutine in a pure place", fset.Position(n.Pos()))
					}
				case *ast.SelectorExpr:
					x, ok := n.X.(*ast.Ident)
					if !ok {
						return true
					}
					call := x.Name + "." + n.Sel.Name
					if pure && (slices.Contains(clock, call) || x.Name == "rand" && x.Obj == nil) {
						t.Errorf("%s: %s in a pure place", fset.Position(n.Pos()), call)
					}
					if name != "cmd/runner" && p.Name != "main" && slices.Contains(out, call) {
						t.Errorf("%s: %s outside the program", fset.Position(n.Pos()), call)
					}
				case *ast.FuncDecl:
					if n.Name.Name == "init" && n.Recv == nil && name != "sources/kafka" {
						t.Errorf("%s: init", fset.Position(n.Pos()))
					}
				}
				return true
			})
		}
	}
}

// TestForeignData keeps other people's data out of the repository.
func TestForeignData(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == ".cache" || d.Name() == "tidemark-demo") {
			return fs.SkipDir
		}
		base := strings.ToLower(d.Name())
		for _, foreign := range []string{"detections.csv", "steel_2018_h1.csv", "nyc_taxi.csv", "route14_outbound.csv", "aws_alb.json", "aws_nfw.json", "windows_sysmon.json"} {
			if base == foreign {
				t.Errorf("%s belongs to somebody else: read it from the shared folder", path)
			}
		}
		if !d.IsDir() {
			if info, err := os.Stat(path); err == nil && info.Size() > 2<<20 && !strings.HasPrefix(path, "bin/") {
				t.Errorf("%s has %d bytes", path, info.Size())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
