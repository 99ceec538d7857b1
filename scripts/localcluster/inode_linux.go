package localcluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Numbers of sock_diag(7) that package syscall does not have.
const (
	netlinkInetDiag  = 4
	sockDiagByFamily = 20
	diagRequestBytes = 16 + 56 // struct nlmsghdr, struct inet_diag_req_v2
	diagInodeAt      = 16 + 68 // struct nlmsghdr, and idiag_inode in struct inet_diag_msg
	diagWait         = time.Second
)

// inodeOf is the inode of the IPv4 socket at from that is connected to to (sock_diag(7)). One question has one answer: /proc/net/tcp, as a
// list, may leave a connection out while others come and go.
func inodeOf(from, to netip.AddrPort) (string, error) {
	s, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, netlinkInetDiag)
	if err != nil {
		return "", os.NewSyscallError("socket", err)
	}
	defer syscall.Close(s)
	wait := syscall.NsecToTimeval(int64(diagWait))
	if err := syscall.SetsockoptTimeval(s, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait); err != nil {
		return "", os.NewSyscallError("setsockopt", err)
	}
	b := make([]byte, diagRequestBytes)
	binary.NativeEndian.PutUint32(b, diagRequestBytes)
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], syscall.NLM_F_REQUEST)
	r := b[16:]
	r[0], r[1] = syscall.AF_INET, syscall.IPPROTO_TCP
	binary.NativeEndian.PutUint32(r[4:], ^uint32(0)) // in any state
	binary.BigEndian.PutUint16(r[8:], from.Port())
	binary.BigEndian.PutUint16(r[10:], to.Port())
	src, dst := from.Addr().Unmap().As4(), to.Addr().Unmap().As4()
	copy(r[12:], src[:])
	copy(r[28:], dst[:])
	binary.NativeEndian.PutUint64(r[48:], ^uint64(0)) // no cookie
	if err := syscall.Sendto(s, b, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return "", os.NewSyscallError("sendto", err)
	}
	answer := make([]byte, 8192)
	n, _, err := syscall.Recvfrom(s, answer, 0)
	if err != nil {
		return "", os.NewSyscallError("recvfrom", err)
	}
	switch answer = answer[:n]; {
	case len(answer) >= 20 && binary.NativeEndian.Uint16(answer[4:]) == syscall.NLMSG_ERROR:
		errno := syscall.Errno(-int32(binary.NativeEndian.Uint32(answer[16:])))
		if errors.Is(errno, syscall.ENOENT) {
			return "", errNoDialler
		}
		return "", os.NewSyscallError("sock_diag", errno)
	case len(answer) < diagInodeAt+4 || binary.NativeEndian.Uint16(answer[4:]) != sockDiagByFamily:
		return "", fmt.Errorf("sock_diag: an answer of %d bytes", len(answer))
	}
	return fmt.Sprint(binary.NativeEndian.Uint32(answer[diagInodeAt:])), nil
}
