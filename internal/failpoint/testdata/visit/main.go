// Command visit comes to one place four times, and says each time that it has left it.
package main

import (
	"fmt"

	"steno/internal/failpoint"
)

func main() {
	for i := range 4 {
		if failpoint.On {
			failpoint.Hit(failpoint.CreateCommitted)
		}
		fmt.Println(i + 1)
	}
}
