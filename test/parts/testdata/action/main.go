// Command greet is run as a container action by the tests.
package main

import (
	"fmt"
	"os"
)

func main() {
	greeting := "hello, " + os.Getenv("INPUT_WHO")
	fmt.Println("::group::greet")
	fmt.Println(greeting, "as process", os.Getpid())
	fmt.Println("::endgroup::")
	appendTo("GITHUB_OUTPUT", "greeting="+greeting+"\n")
	appendTo("GITHUB_STEP_SUMMARY", "# Greeted\n\n"+greeting+"\n")
	if os.Getenv("INPUT_FAIL") == "true" {
		fmt.Println("::error::asked to fail")
		os.Exit(3)
	}
}

func appendTo(variable, text string) {
	f, err := os.OpenFile(os.Getenv(variable), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err != nil {
		fmt.Println("::error::", err)
		os.Exit(1)
	}
}
