package catalogue

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nearsql/nearsql/tenant"
	"github.com/nearsql/nearsql/wire"
)

// CreateGroup declares a group that is to be founded by its voters, and returns its number: 3 or above, and above those of all groups
// before it. A group with that name, those voters and that policy, not founded yet, is taken for the one that is asked for.
// Its error is a *GroupExistsError when another has the name, a *NotEligibleError when voters are not active.
func (w *Writer) CreateGroup(ctx context.Context, name string, voters []string, p Policy) (wire.GroupID, error) {
	voters, err := checkGroup(name, voters, p)
	if err != nil {
		return 0, &InvalidError{Err: err}
	}
	args := []wire.Value{wire.Text(name), listText(voters), boolean(p.Pinned), wire.Integer(int64(p.Target)), wire.Text(p.Region), millis(w.now())}
	marks, args := listArgs(args, voters)
	r, err := w.change(ctx, fmt.Sprintf("create group %q", name), []wire.Statement{stmt(
		`INSERT INTO groups (`+groupColumns+`)
		SELECT (SELECT max(2, coalesce(max(id), 0)) + 1 FROM groups), ?1, ?2, ?3, ?4, ?5, 0, '[]', '[]', '', 0, 0, ?6, ?6, `+next+`
		WHERE NOT EXISTS (SELECT 1 FROM groups WHERE name = ?1)
		AND (SELECT count(*) FROM nodes WHERE state = 'active' AND id IN (`+marks+`)) = `+fmt.Sprint(len(voters)), args...)},
		stmt(`SELECT `+groupColumns+` FROM groups WHERE name = ?1`, wire.Text(name)), askEligible(voters))
	if err != nil {
		return 0, err
	}
	if len(r[0].Rows) == 0 {
		return 0, notEligible(voters, r[1])
	}
	g, err := readGroup(r[0].Rows[0])
	if err != nil {
		return 0, err
	}
	if g.Founded || g.Policy != p || !slices.Equal(g.Voters, voters) {
		return 0, &GroupExistsError{Name: name, ID: g.ID}
	}
	return g.ID, nil
}

// SetVoters declares other voters for a founded group, if old is still what is declared. Nodes that are new among them must be active. Its error is
// a *NoSuchGroupError, *NotFoundedError, *VotersChangedError, *NotEligibleError.
func (w *Writer) SetVoters(ctx context.Context, id wire.GroupID, voters, old []string) error {
	voters, err := checkVoters(voters)
	if err != nil {
		return &InvalidError{Err: err}
	}
	old = slices.Sorted(slices.Values(old))
	var added []string
	for _, v := range voters {
		if !slices.Contains(old, v) {
			added = append(added, v)
		}
	}
	args := []wire.Value{wire.Integer(int64(id)), listText(voters), listText(old), millis(w.now())}
	marks, args := listArgs(args, added)
	r, err := w.change(ctx, fmt.Sprintf("set the voters of group %d", id), []wire.Statement{stmt(
		`UPDATE groups SET voters = ?2, changed = ?4, version = `+next+` WHERE id = ?1 AND voters = ?3 AND voters <> ?2 AND founded = 1
		AND (SELECT count(*) FROM nodes WHERE state = 'active' AND id IN (`+marks+`)) = `+fmt.Sprint(len(added)), args...)},
		askGroup(id), askEligible(added))
	if err != nil {
		return err
	}
	g, err := groupOf(r[0], id)
	switch {
	case err != nil:
		return err
	case slices.Equal(g.Voters, voters):
		return nil
	case !g.Founded:
		return &NotFoundedError{Group: id}
	case !slices.Equal(g.Voters, old):
		return &VotersChangedError{Group: id, Have: g.Voters}
	}
	return notEligible(added, r[1])
}

// SetPolicy changes by what rules the voters of a group are chosen. Its error is a *NoSuchGroupError.
func (w *Writer) SetPolicy(ctx context.Context, id wire.GroupID, p Policy) error {
	if err := p.Validate(); err != nil {
		return &InvalidError{Err: err}
	}
	r, err := w.change(ctx, fmt.Sprintf("set the policy of group %d", id), []wire.Statement{stmt(
		`UPDATE groups SET pinned = ?2, target = ?3, region = ?4, changed = ?5, version = `+next+`
		WHERE id = ?1 AND (pinned <> ?2 OR target <> ?3 OR region <> ?4)`,
		wire.Integer(int64(id)), boolean(p.Pinned), wire.Integer(int64(p.Target)), wire.Text(p.Region), millis(w.now()))}, askGroup(id))
	if err != nil {
		return err
	}
	_, err = groupOf(r[0], id)
	return err
}

// SetFounded says that a group has its log: its voters may change from now on. Its error is a *NoSuchGroupError.
func (w *Writer) SetFounded(ctx context.Context, id wire.GroupID) error {
	r, err := w.change(ctx, fmt.Sprintf("note that group %d is founded", id), []wire.Statement{stmt(
		`UPDATE groups SET founded = 1, version = `+next+` WHERE id = ?1 AND founded = 0`, wire.Integer(int64(id)))}, askGroup(id))
	if err != nil {
		return err
	}
	_, err = groupOf(r[0], id)
	return err
}

// ReportMembers notes the members of a group, as its primary sees them. A report of an earlier term, or in the same term of an earlier
// configuration, is passed over without an error. Its error is a *NoSuchGroupError.
func (w *Writer) ReportMembers(ctx context.Context, id wire.GroupID, m Members) error {
	if m.Term == 0 || len(m.Voters) == 0 {
		return &InvalidError{Err: fmt.Errorf("report of group %d: it has %d voters, in term %d", id, len(m.Voters), m.Term)}
	}
	voters, learners := slices.Sorted(slices.Values(m.Voters)), slices.Sorted(slices.Values(m.Learners))
	r, err := w.change(ctx, fmt.Sprintf("report the members of group %d", id), []wire.Statement{stmt(
		`UPDATE groups SET member_voters = ?2, member_learners = ?3, member_primary = ?4, member_term = ?5, member_index = ?6, version = `+next+`
		WHERE id = ?1 AND (member_term < ?5 OR member_term = ?5 AND member_index <= ?6) AND (member_voters <> ?2 OR member_learners <> ?3
			OR member_primary <> ?4 OR member_term <> ?5 OR member_index <> ?6)`,
		wire.Integer(int64(id)), listText(voters), listText(learners), wire.Text(m.Primary), wire.Integer(int64(m.Term)), wire.Integer(int64(m.Index)))},
		askGroup(id))
	if err != nil {
		return err
	}
	_, err = groupOf(r[0], id)
	return err
}

func checkGroup(name string, voters []string, p Policy) ([]string, error) {
	if err := tenant.CheckLabel(name); err != nil {
		return nil, fmt.Errorf("group: %w", err)
	}
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("group %q: %w", name, err)
	}
	voters, err := checkVoters(voters)
	if err != nil {
		return nil, fmt.Errorf("group %q: %w", name, err)
	}
	return voters, nil
}

// listArgs adds ids to the arguments of a statement, and returns their parameters with commas between.
func listArgs(args []wire.Value, ids []string) (string, []wire.Value) {
	marks := make([]string, len(ids))
	for i, id := range ids {
		args = append(args, wire.Text(id))
		marks[i] = fmt.Sprintf("?%d", len(args))
	}
	return strings.Join(marks, ", "), args
}

// askEligible reads which of the nodes are active.
func askEligible(ids []string) wire.Statement {
	marks, args := listArgs(nil, ids)
	return stmt(`SELECT id FROM nodes WHERE state = 'active' AND id IN (`+marks+`)`, args...)
}

// notEligible names the ids that are not in the answer to askEligible.
func notEligible(ids []string, r wire.Result) error {
	e := &NotEligibleError{}
	for _, id := range ids {
		if !slices.ContainsFunc(r.Rows, func(row []wire.Value) bool { return row[0].Str() == id }) {
			e.IDs = append(e.IDs, id)
		}
	}
	return e
}
