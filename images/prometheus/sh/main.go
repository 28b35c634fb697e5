// A shell for prometheus/start.sh: `sh FILE ARGUMENT…`. The official image has busybox's. Its exec is a real one, so that
// signals reach the program.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

func replace(_ context.Context, words []string) ([]string, error) {
	if words[0] != "exec" || len(words) < 2 {
		return words, nil
	}
	path, err := exec.LookPath(words[1])
	if err != nil {
		return nil, err
	}
	return nil, syscall.Exec(path, words[1:], os.Environ())
}

func run(path string, arguments []string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	program, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(file, path)
	if err != nil {
		return err
	}
	runner, err := interp.New(
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr),
		interp.Params(append([]string{"--"}, arguments...)...),
		interp.CallHandler(replace),
	)
	if err != nil {
		return err
	}
	return runner.Run(context.Background(), program)
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: sh FILE ARGUMENT…")
		os.Exit(2)
	}
	err := run(os.Args[1], os.Args[2:])
	var status interp.ExitStatus
	if errors.As(err, &status) {
		os.Exit(int(status))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		os.Exit(127)
	}
}
