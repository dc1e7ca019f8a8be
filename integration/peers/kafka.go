package peers

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// KafkaVersion is the version of the broker.
const KafkaVersion = "3.9.1"

//go:embed broker.xml
var brokerPOM []byte

// kafkaLibs returns the folder with the broker's jars.
func kafkaLibs() (string, error) {
	dir, err := cached("kafka-"+KafkaVersion, func(dir string) error {
		pom := filepath.Join(dir, "pom.xml")
		if err := os.WriteFile(pom, brokerPOM, 0o644); err != nil {
			return err
		}
		_, err := tool(dir, "Maven", "mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "lib"))
		return err
	})
	return filepath.Join(dir, "lib"), err
}

// Kafka is one broker that is its own controller. Topics are not made by themselves; the
// log keeps everything; timestamps are the producers' unless a topic says
// message.timestamp.type=LogAppendTime.
type Kafka struct {
	dir, libs  string
	port, ctrl int
	proc       *process
}

// kafkaReady bounds the wait for a broker to take requests, kafkaStop that for its end.
const (
	kafkaReady = 90 * time.Second
	kafkaStop  = 30 * time.Second
)

// StartKafka makes a broker in an empty folder and waits until it takes requests.
func StartKafka(ctx context.Context, dir string) (*Kafka, error) {
	libs, err := kafkaLibs()
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	k := &Kafka{dir: dir, libs: libs, port: ports[0], ctrl: ports[1]}
	if err := os.WriteFile(k.path("server.properties"), []byte(k.properties()), 0o644); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	if err := os.WriteFile(k.path("log4j.properties"), []byte(log4j), 0o644); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return nil, fmt.Errorf("kafka: cluster id: %w", err)
	}
	id[0] &= 0x7f // its text must not begin with a dash
	if _, err := tool(dir, "Java 17", "java", append(k.java("-Xmx128m"), "kafka.tools.StorageTool", "format",
		"-t", base64.RawURLEncoding.EncodeToString(id), "-c", k.path("server.properties"))...); err != nil {
		return nil, fmt.Errorf("kafka: format of the log folder: %w", err)
	}
	return k, k.Start(ctx)
}

const log4j = `log4j.rootLogger=WARN, out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d{HH:mm:ss,SSS} %p %m (%c)%n
`

func (k *Kafka) properties() string {
	return fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%[2]d
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:%[1]d,CONTROLLER://127.0.0.1:%[2]d
advertised.listeners=PLAINTEXT://127.0.0.1:%[1]d
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=%[3]s
# A broker that was killed is let in again when the session of its last life is over.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=2
background.threads=2
num.partitions=1
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
log.retention.ms=-1
log.retention.bytes=-1
log.cleaner.dedupe.buffer.size=16777216
message.max.bytes=8388608
compression.type=producer
`, k.port, k.ctrl, k.path("log"))
}

func (k *Kafka) path(name string) string { return filepath.Join(k.dir, name) }

func (k *Kafka) java(flags ...string) []string {
	return append(flags, "-XX:+UseSerialGC", "-XX:ActiveProcessorCount=2", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true",
		"-Dlog4j.configuration=file:"+k.path("log4j.properties"), "-cp", filepath.Join(k.libs, "*"))
}

// Addr is host:port, the same in every life of the broker.
func (k *Kafka) Addr() string { return fmt.Sprintf("127.0.0.1:%d", k.port) }

// Start starts the broker again after Stop or Kill, and waits until every partition has
// its leader.
func (k *Kafka) Start(ctx context.Context) error {
	path, err := exec.LookPath("java")
	if err != nil {
		return errors.New("java is not on the PATH: install Java 17")
	}
	k.proc, err = start("kafka", k.path("out.log"), exec.Command(path, append(k.java("-Xms256m", "-Xmx256m"), "kafka.Kafka", k.path("server.properties"))...))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, kafkaReady)
	defer cancel()
	return k.await(ctx)
}

// await asks for metadata until they are complete.
func (k *Kafka) await(ctx context.Context) error {
	tr := &kafkago.Transport{MetadataTTL: 100 * time.Millisecond}
	defer tr.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(k.Addr()), Transport: tr, Timeout: 2 * time.Second}
	for {
		m, err := client.Metadata(ctx, &kafkago.MetadataRequest{})
		if err == nil && len(m.Brokers) > 0 {
			err = leaderless(m)
		}
		switch {
		case err == nil && len(m.Brokers) > 0:
			return nil
		case !k.proc.alive():
			return k.proc.died()
		case ctx.Err() != nil:
			return errors.Join(fmt.Errorf("kafka took no requests within %v: %w:\n%s", kafkaReady, errors.Join(ctx.Err(), err), k.Log()), k.proc.kill())
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func leaderless(m *kafkago.MetadataResponse) error {
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			if p.Error != nil || p.Leader.Host == "" {
				return fmt.Errorf("partition %s/%d has no leader: %w", t.Name, p.ID, p.Error)
			}
		}
	}
	return nil
}

// Stop ends the broker with SIGTERM.
func (k *Kafka) Stop() error { return k.proc.stop(kafkaStop) }

// Kill ends the broker with SIGKILL.
func (k *Kafka) Kill() error { return k.proc.kill() }

// Log returns the end of what the broker printed.
func (k *Kafka) Log() string { return k.proc.tail() }
