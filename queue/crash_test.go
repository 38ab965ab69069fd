package queue

var roles = map[string]func(args []string) error{}
