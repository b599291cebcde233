// Program beast is an app that answers with the version.txt of its working directory, and that can be told to misbehave.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	port   = flag.String("port", os.Getenv("PORT"), "answer on this port of the loopback; a socket from systemd goes first")
	after  = flag.Duration("after", 0, "begin to answer, and tell systemd so, that late")
	die    = flag.Duration("die", 0, "end with status 9 that long after the first answer")
	deaf   = flag.Bool("deaf", false, "ignore SIGTERM")
	away   = flag.Bool("away", false, "fork, and end with 0")
	status = flag.Int("status", http.StatusOK, "answer with this status")
	flap   = flag.Bool("flap", false, "answer every second request only")
	eat    = flag.Bool("eat", false, "use all the memory there is")
	slow   = flag.Duration("slow", 0, "take that long to end")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if *away {
		background()
		return
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if *deaf {
		signal.Ignore(syscall.SIGTERM)
	}
	if *eat {
		devour()
	}
	select {
	case <-time.After(*after):
	case <-stop:
		return
	}
	l, err := listen()
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(l, answer())) }() // #nosec G114 -- the test is its only client
	ready()
	<-stop
	time.Sleep(*slow)
}

// background starts the program again without -away, in a session of its own, and waits until it listens.
func background() {
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return a == "-away" })
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	for range 50 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+*port); err == nil {
			c.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func listen() (net.Listener, error) {
	if os.Getenv("LISTEN_FDS") != "" {
		return net.FileListener(os.NewFile(3, "socket"))
	}
	return net.Listen("tcp", "127.0.0.1:"+*port)
}

func answer() http.Handler {
	version, _ := os.ReadFile("version.txt")
	var asked atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		code, n := *status, asked.Add(1)
		if *die > 0 && n == 1 {
			time.AfterFunc(*die, func() { log.Print("the pool ran dry"); os.Exit(9) })
		}
		if *flap && n%2 == 0 {
			code = http.StatusServiceUnavailable
		}
		w.WriteHeader(code)
		fmt.Fprintf(w, "%s\n", strings.TrimSpace(string(version)))
	})
}

// ready tells systemd, which asks for it with Type=notify.
func ready() {
	addr := os.Getenv("NOTIFY_SOCKET")
	if addr == "" {
		return
	}
	c, err := net.Dial("unixgram", addr)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "READY=1")
}

// devour uses memory until the kernel ends the process. Where it may have more than any limit of the test, it is ended as
// the kernel would.
func devour() {
	log.Print("eating")
	var meal [][]byte
	for range 512 {
		bite := make([]byte, 1<<20)
		for i := range bite {
			bite[i] = 1
		}
		meal = append(meal, bite)
	}
	log.Printf("%d MiB and still alive", len(meal))
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
