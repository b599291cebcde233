module example.com/zero-downtime

go 1.22
