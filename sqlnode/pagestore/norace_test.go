//go:build !race

package pagestore

const ownPageCache = true
