package disk

// Held is how many descriptors are held.
func Held(s *Spares) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.held)
}
