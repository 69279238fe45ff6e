// Load on etcd or Redis: so many clients, each asking again when it has its answer; what they saw, as JSON.
//
//	load -system etcd -endpoints 127.0.0.1:2379 -clients 100 -connections 100 -op put -warmup 1s -time 5s
//
// It connects, says "ready", waits for a line, makes its load, says what it saw, and stays until its input ends, so
// that the processor time it took can be read. Who gets a value has put it before it is ready.
//
// etcd is asked through its own client, and only its leader: a follower would send each request on. A put is
// acknowledged when it is durable on a majority. A put to Redis is SET and WAIT 1 in one write: acknowledged when the
// primary has it on disk and one replica has executed it, and flushed it if it is configured so.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const dialTimeout = 5 * time.Second

// What one client does again and again.
type call func(client int) error

func main() {
	system := flag.String("system", "", "etcd or redis")
	endpoints := flag.String("endpoints", "", "host:port,... of all; of Redis the primary alone")
	clients := flag.Int("clients", 1, "how many ask at a time")
	connections := flag.Int("connections", 1, "how many connections they share")
	op := flag.String("op", "put", "put or get")
	size := flag.Int("size", 64, "bytes of a value")
	warmup := flag.Duration("warmup", time.Second, "before the measurement")
	length := flag.Duration("time", 5*time.Second, "of the measurement")
	flag.Parse()

	addresses := strings.Split(*endpoints, ",")
	value := strings.Repeat("x", *size)
	var puts, gets call
	var err error
	switch *system {
	case "etcd":
		puts, gets, err = connectEtcd(addresses, *connections, value)
	case "redis":
		puts, gets, err = connectRedis(addresses[0], *clients, *connections, value)
	default:
		err = fmt.Errorf("-system %q: there is no such system", *system)
	}
	if err != nil {
		fail(err)
	}
	asks := puts
	if *op == "get" {
		asks = gets
		for client := 0; client < *clients; client++ {
			if err := puts(client); err != nil {
				fail(err)
			}
		}
	}
	fmt.Println("ready")
	input := bufio.NewReader(os.Stdin)
	if _, err := input.ReadString('\n'); err != nil {
		fail(err)
	}
	if err := report(asks, *clients, *warmup, *length); err != nil {
		fail(err)
	}
	if _, err := io.Copy(io.Discard, input); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(1)
}

// --- Systems ----------------------------------------------------------------------------------------

func connectEtcd(endpoints []string, connections int, value string) (call, call, error) {
	leader, err := leaderOf(endpoints)
	if err != nil {
		return nil, nil, err
	}
	shared := make([]*clientv3.Client, connections)
	for i := range shared {
		if shared[i], err = dialEtcd(leader); err != nil {
			return nil, nil, err
		}
	}
	puts := func(client int) error {
		_, err := shared[client%connections].Put(context.Background(), key(client), value)
		return err
	}
	gets := func(client int) error {
		found, err := shared[client%connections].Get(context.Background(), key(client)) // Linearizable by default.
		if err == nil && (len(found.Kvs) != 1 || len(found.Kvs[0].Value) != len(value)) {
			err = fmt.Errorf("etcd: %s is not what was put there", key(client))
		}
		return err
	}
	return puts, gets, nil
}

// The endpoint of the member that leads.
func leaderOf(endpoints []string) (string, error) {
	for _, endpoint := range endpoints {
		client, err := dialEtcd(endpoint)
		if err != nil {
			return "", err
		}
		asked, cancel := context.WithTimeout(context.Background(), dialTimeout)
		status, err := client.Status(asked, endpoint)
		cancel()
		client.Close()
		if err != nil {
			return "", err
		}
		if status.Leader == status.Header.MemberId {
			return endpoint, nil
		}
	}
	return "", fmt.Errorf("etcd: none of %s leads", strings.Join(endpoints, ", "))
}

func dialEtcd(endpoint string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: dialTimeout})
}

func key(client int) string {
	return fmt.Sprintf("customer-%d", client)
}

type redisConnection struct {
	lock   sync.Mutex
	socket net.Conn
	reader *bufio.Reader
}

func connectRedis(address string, clients int, connections int, value string) (call, call, error) {
	if clients != connections {
		return nil, nil, fmt.Errorf("redis: WAIT concerns a whole connection, so each client needs its own")
	}
	shared := make([]*redisConnection, connections)
	for i := range shared {
		socket, err := net.DialTimeout("tcp", address, dialTimeout)
		if err != nil {
			return nil, nil, err
		}
		shared[i] = &redisConnection{socket: socket, reader: bufio.NewReader(socket)}
	}
	puts := func(client int) error {
		name := key(client)
		answers, err := shared[client].ask(fmt.Sprintf(
			"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n",
			len(name), name, len(value), value), 2)
		if err == nil && answers[1] == ":0" {
			err = fmt.Errorf("redis: no replica has it")
		}
		return err
	}
	gets := func(client int) error {
		name := key(client)
		answers, err := shared[client].ask(fmt.Sprintf("*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(name), name), 1)
		if err == nil && answers[0] != fmt.Sprintf("$%d", len(value)) {
			err = fmt.Errorf("redis: %s is not what was put there", name)
		}
		return err
	}
	return puts, gets, nil
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
			for {
				asked := time.Now()
				if asked.After(end) {
					return
				}
				if err := asks(client); err != nil {
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
		"per_second": float64(len(every)) / length.Seconds(),
		"p50":        at(every, 0.5),
		"p99":        at(every, 0.99),
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
