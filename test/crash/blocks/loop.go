package blocks

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// attach attaches a free loop device to the file.
func attach(path string) (device string, err error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("attach a loop device: %w", err)
	}
	defer control.Close()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("attach a loop device: %w", err)
	}
	defer file.Close()
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return "", fmt.Errorf("attach a loop device: %w", err)
		}
		device = fmt.Sprintf("/dev/loop%d", n)
		err = func() error {
			loop, err := os.OpenFile(device, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer loop.Close()
			return unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(file.Fd()))
		}()
		if !errors.Is(err, unix.EBUSY) { // another was faster
			if err != nil {
				return "", fmt.Errorf("attach %s: %w", device, err)
			}
			return device, nil
		}
	}
	return "", errors.New("attach a loop device: all are busy")
}

func detach(device string) error {
	loop, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("detach %s: %w", device, err)
	}
	defer loop.Close()
	if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0); err != nil {
		return fmt.Errorf("detach %s: %w", device, err)
	}
	return nil
}
