package leader

// VerifyLeader is the read index as raft's own means would make it.
func (g *Group) VerifyLeader() (uint64, error) {
	if err := g.run.raft.VerifyLeader().Error(); err != nil {
		return 0, err
	}
	return g.lastCommand(g.committed())
}
