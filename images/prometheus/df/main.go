// df, as far as prometheus/start.sh needs it: `df -Pk DIRECTORY`. The official image has busybox's.
package main

import (
	"fmt"
	"log"
	"os"
	"syscall"
)

func main() {
	path := os.Args[len(os.Args)-1]
	var found syscall.Statfs_t
	if err := syscall.Statfs(path, &found); err != nil {
		log.Fatalf("df: %s: %v", path, err)
	}
	kib := func(blocks uint64) uint64 { return blocks * uint64(found.Bsize) / 1024 }
	total, used, free := kib(found.Blocks), kib(found.Blocks-found.Bfree), kib(found.Bavail)
	fmt.Println("Filesystem 1024-blocks Used Available Capacity Mounted on")
	fmt.Printf("- %d %d %d %d%% %s\n", total, used, free, 100*used/max(1, used+free), path)
}
