//go:build race

package artifact

// raced says that the race detector, which needs several times the memory, is in this program.
const raced = true
