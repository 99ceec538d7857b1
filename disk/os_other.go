//go:build !linux

package disk

func syncMany(names []string) error { return syncEach(names) }
