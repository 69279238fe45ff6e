// Load on etcd or Redis: so many clients, each asking again when it has its answer; what they saw, as JSON.
//
//	load -system etcd -endpoints 127.0.0.1:2379 -clients 100 -connections 100 -op put -warmup 1s -time 5s
//
// etcd is asked through its own client; a put is acknowledged when it is durable on a majority. A put to Redis is
// SET and WAIT 1 in one write: acknowledged when the primary has it on disk (appendfsync always) and one replica has it
// in memory.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/clientv3"
)

// What one client does again and again.
type call func(client int, number int) error

func main() {
	system := flag.String("system", "", "etcd or redis")
	endpoints := flag.String("endpoints", "", "host:port,...; of Redis the primary alone")
	clients := flag.Int("clients", 1, "how many ask at a time")
	connections := flag.Int("connections", 1, "how many connections they share")
	op := flag.String("op", "put", "put or get")
	size := flag.Int("size", 64, "bytes of a value")
	warmup := flag.Duration("warmup", time.Second, "before the measurement")
	length := flag.Duration("time", 5*time.Second, "of the measurement")
	flag.Parse()

	addresses := strings.Split(*endpoints, ",")
	value := strings.Repeat("x", *size)
	var asks call
	var err error
	switch *system {
	case "etcd":
		asks, err = connectEtcd(addresses, *connections, *op, value)
	case "redis":
		asks, err = connectRedis(addresses[0], *clients, *connections, *op, value)
	default:
		err = fmt.Errorf("-system %q: there is no such system", *system)
	}
	if err != nil {
		fail(err)
	}
	if err := report(asks, *clients, *warmup, *length); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(1)
}

// --- Systems ----------------------------------------------------------------------------------------

func connectEtcd(endpoints []string, connections int, op string, value string) (call, error) {
	shared := make([]*clientv3.Client, connections)
	for i := range shared {
		client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second})
		if err != nil {
			return nil, err
		}
		shared[i] = client
	}
	return func(client int, number int) error {
		connection := shared[client%connections]
		key := fmt.Sprintf("customer-%d", client)
		var err error
		if op == "get" {
			_, err = connection.Get(context.Background(), key) // Linearizable, which is its default.
		} else {
			_, err = connection.Put(context.Background(), key, value)
		}
		return err
	}, nil
}

type redisConnection struct {
	lock   sync.Mutex
	socket net.Conn
	reader *bufio.Reader
}

func connectRedis(address string, clients int, connections int, op string, value string) (call, error) {
	if clients != connections {
		return nil, fmt.Errorf("redis: WAIT concerns a whole connection, so each client needs its own")
	}
	shared := make([]*redisConnection, connections)
	for i := range shared {
		socket, err := net.Dial("tcp", address)
		if err != nil {
			return nil, err
		}
		shared[i] = &redisConnection{socket: socket, reader: bufio.NewReader(socket)}
	}
	return func(client int, number int) error {
		connection := shared[client]
		key := fmt.Sprintf("customer-%d", client)
		if op == "get" {
			_, err := connection.ask(fmt.Sprintf("*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key), 1)
			return err
		}
		answers, err := connection.ask(fmt.Sprintf(
			"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n",
			len(key), key, len(value), value), 2)
		if err == nil && answers[1] == ":0" {
			err = fmt.Errorf("redis: no replica has it")
		}
		return err
	}, nil
}

func (connection *redisConnection) ask(request string, answers int) ([]string, error) {
	connection.lock.Lock()
	defer connection.lock.Unlock()
	if _, err := connection.socket.Write([]byte(request)); err != nil {
		return nil, err
	}
	lines := make([]string, 0, answers)
	for len(lines) < answers {
		line, err := connection.reader.ReadString('\n')
		if err != nil {
			return nil, err
		}
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "-") {
			return nil, fmt.Errorf("redis: %s", line)
		}
		if strings.HasPrefix(line, "$") && line != "$-1" {
			if _, err := connection.reader.ReadString('\n'); err != nil { // The value; ours has no line ends.
				return nil, err
			}
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// --- Measuring --------------------------------------------------------------------------------------

func report(asks call, clients int, warmup time.Duration, length time.Duration) error {
	begin := time.Now().Add(warmup)
	end := begin.Add(length)
	latencies := make([][]time.Duration, clients)
	failures := make([]error, clients)
	var all sync.WaitGroup
	for client := 0; client < clients; client++ {
		all.Add(1)
		go func(client int) {
			defer all.Done()
			for number := 0; ; number++ {
				asked := time.Now()
				if asked.After(end) {
					return
				}
				if err := asks(client, number); err != nil {
					failures[client] = err
					return
				}
				answered := time.Now()
				if answered.After(begin) && answered.Before(end) {
					latencies[client] = append(latencies[client], answered.Sub(asked))
				}
			}
		}(client)
	}
	time.Sleep(time.Until(begin))
	before := processorTime()
	time.Sleep(time.Until(end))
	spent := processorTime() - before
	all.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	var every []time.Duration
	for _, mine := range latencies {
		every = append(every, mine...)
	}
	sort.Slice(every, func(i int, j int) bool { return every[i] < every[j] })
	return json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"count":       len(every),
		"per_second":  float64(len(every)) / length.Seconds(),
		"p50":         at(every, 0.5),
		"p99":         at(every, 0.99),
		"p999":        at(every, 0.999),
		"max":         at(every, 1),
		"cpu_seconds": spent.Seconds(),
		"go":          runtime.Version(),
	})
}

// Milliseconds that this share of them does not exceed.
func at(rising []time.Duration, share float64) float64 {
	if len(rising) == 0 {
		return 0
	}
	index := int(share * float64(len(rising)-1))
	return float64(rising[index].Nanoseconds()) / 1e6
}

func processorTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
