package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/nearsql/nearsql/sqlnode/recovery"
	"github.com/nearsql/nearsql/wire"
)

const acceptLoss = "i-accept-losing-acknowledged-writes"

func recoverCommand(s stdio) *cli.Command {
	return &cli.Command{
		Name:  "recover",
		Usage: "Make this node's copy the whole of a group whose majority is lost for good",
		Description: "The last resort: writes that clients were told are safe may be lost. Only for a group most of whose voters will\n" +
			"never start again, and only on one node: the voter with the newest copy. The node must be stopped.\n" +
			"With --discard it sets this node's copy aside, since the group was recovered from another node's.",
		Flags: []cli.Flag{
			dataDirFlag("data directory of the stopped node"),
			&cli.StringFlag{Name: "group", Usage: "`N|all`: the group; all that have lost their majority (needed)"},
			&cli.BoolFlag{Name: acceptLoss, Usage: "say so (needed)"},
			&cli.BoolFlag{Name: "yes", Usage: "don't ask"},
			&cli.BoolFlag{Name: "discard", Usage: "set this node's copy aside: another node's is the group now"},
			&cli.StringFlag{Name: "cluster", Usage: "`ID` that the cluster has since its system group was recovered; for --discard --group 1"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			group, err := wantFlag(c, "group")
			if err != nil {
				return err
			}
			if !c.Bool(acceptLoss) {
				return usagef("%s may lose writes that clients were told are safe: it needs --%s", c.Command.HelpName, acceptLoss)
			}
			if c.String("cluster") != "" && !c.Bool("discard") {
				return usagef("--cluster is for --discard")
			}
			d, err := recovery.Open(recovery.Config{DataDir: c.String("data-dir"), Log: slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))})
			if err != nil {
				return err
			}
			r := recoverer{s: s, dir: d, sure: c.Bool("yes")}
			if c.Bool("discard") {
				err = r.discard(c.Context, group, c.String("cluster"))
			} else {
				err = r.recover(c.Context, group)
			}
			return errors.Join(err, d.Close())
		},
	}
}

// recoverer is one run of the command.
type recoverer struct {
	s    stdio
	dir  *recovery.Directory
	sure bool // don't ask
}

func parseGroup(text string) (wire.GroupID, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 {
		return 0, usagef("--group %s: want the number of a group", text)
	}
	return wire.GroupID(n), nil
}

// groups are those that --group names.
func (r *recoverer) groups(text string) ([]wire.GroupID, error) {
	if text == "all" {
		return r.dir.Groups()
	}
	id, err := parseGroup(text)
	return []wire.GroupID{id}, err
}

func (r *recoverer) recover(ctx context.Context, group string) error {
	ids, err := r.groups(group)
	if err != nil {
		return err
	}
	var copies []recovery.Copy
	for _, id := range ids {
		c, err := r.dir.Examine(id)
		var not *recovery.NotRecoverableError
		switch {
		case group == "all" && errors.As(err, &not):
			fmt.Fprintf(r.s.out, "Group %d is left as it is: %s.\n", id, not.Reason)
			continue
		case err != nil:
			return err
		case len(c.Lost(r.dir.Node())) == 0 && !c.Learner(r.dir.Node()):
			fmt.Fprintf(r.s.out, "Group %d is left as it is: this node is its only voter.\n", id)
			continue
		}
		copies = append(copies, c)
	}
	if len(copies) == 0 {
		return errors.New("there is nothing to recover")
	}
	r.warn(copies)
	if err := r.confirm(ctx, group); err != nil {
		return err
	}
	done, err := r.dir.Recover(copies)
	if err != nil {
		return fmt.Errorf("%w. Don't start the node: find out what is wrong, and call this again", err)
	}
	r.tell(copies, done)
	return nil
}

// warn says what is about to happen.
func (r *recoverer) warn(copies []recovery.Copy) {
	w := r.s.out
	for i := range copies {
		c := &copies[i]
		fmt.Fprintf(w, "\nGROUP %s\n", groupName(c.Group))
		fmt.Fprintf(w, "  This node, %s, will be its only voter. These are left behind: %s.\n", r.dir.Node(), joined(c.Lost(r.dir.Node())))
		if c.Learner(r.dir.Node()) {
			fmt.Fprintf(w, "  This node NEVER HAD A VOTE in it: any voter's copy is likely to be newer.\n")
		}
		fmt.Fprintf(w, "  Its copy ends with entry %d of term %d. EVERY WRITE BEHIND THAT IS LOST, also those that clients were told are safe;\n", c.Raft.Last, c.Raft.LastTerm)
		fmt.Fprintf(w, "  nobody knows how many there are: another voter's copy with a higher term, or the same and a higher entry, has more.\n")
		fmt.Fprintf(w, "  Writes in the copy that were never acknowledged will count.\n")
		fmt.Fprintf(w, "  %d tenants begin a new epoch; older bookmarks get BOOKMARK_LOST. They stand here:\n", len(c.Tenants))
		for _, t := range c.Tenants {
			fmt.Fprintf(w, "    %s  %-24s %-8s epoch %d, transaction %d\n", t.Record.ID, t.Record.Name, t.Record.State, uint32(t.Pos.Epoch), uint64(t.Pos.TXID))
			if t.Trouble != "" {
				fmt.Fprintf(w, "      THIS NODE DOES NOT HAVE ITS DATA, WHICH IS LOST: %s\n", printable(t.Trouble))
			}
		}
		if c.Group == recovery.SystemGroup {
			fmt.Fprintf(w, "  Tenants, tokens and settings that were made behind that entry are lost.\n")
			fmt.Fprintf(w, "  The cluster gets another id, so that the nodes that are left behind and this one refuse each other.\n")
		}
	}
	fmt.Fprintf(w, "\nThe nodes that are left behind must NEVER start again with the data that they have: two of three are a majority, and would\n"+
		"serve another history to whoever reaches them. Nothing can keep them from it but you.\n")
}

// confirm asks for the name of what is recovered.
func (r *recoverer) confirm(ctx context.Context, want string) error {
	if r.sure {
		return nil
	}
	what := "group " + want
	if want == "all" {
		what = "all groups"
	}
	fmt.Fprintf(r.s.out, "\nType %q to go on: ", what)
	line, err := bufio.NewReader(io.LimitReader(r.s.in, 1<<10)).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if strings.TrimSpace(line) != what {
		return errors.New("nothing was changed")
	}
	return nil
}

// tell says what was done, and what is to be done.
func (r *recoverer) tell(copies []recovery.Copy, done recovery.Recovered) {
	w := r.s.out
	lost := make(map[string]struct{})
	fmt.Fprintln(w)
	for i := range copies {
		c := &copies[i]
		fmt.Fprintf(w, "Group %s is recovered. What its log was before is in %s.\n", groupName(c.Group), done.Kept[c.Group])
		for _, id := range c.Lost(r.dir.Node()) {
			lost[string(id)] = struct{}{}
		}
	}
	fmt.Fprintf(w, "\nNow:\n")
	fmt.Fprintf(w, "  1. On the nodes that are left behind (%s): delete the data directory. Never start them with it.\n", joined(slices.Sorted(maps.Keys(lost))))
	fmt.Fprintf(w, "  2. Start this node.\n")
	fmt.Fprintf(w, "  3. Remove those nodes from the cluster: nearsql node remove NODE.\n")
	fmt.Fprintf(w, "  4. Add nodes under new ids: nearsql serve --node-id NEW --join HOST:PORT with the cluster address of this one.\n")
	if done.NewCluster {
		fmt.Fprintf(w, "  5. The cluster's id is now %s. Any other node that is well, and has groups that were not lost, takes it by\n"+
			"       nearsql recover --discard --group 1 --cluster %s --%s\n", done.Cluster, done.Cluster, acceptLoss)
	} else {
		fmt.Fprintf(w, "  5. Any other node that is well and has a copy of a recovered group sets that aside, or it may be refused:\n"+
			"       nearsql recover --discard --group N --%s\n", acceptLoss)
	}
}

func (r *recoverer) discard(ctx context.Context, group, newCluster string) error {
	id, err := parseGroup(group)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.s.out, "Node %s sets aside its copy of group %s. Writes that are in no other copy are lost.\n", r.dir.Node(), groupName(id))
	if err := r.confirm(ctx, group); err != nil {
		return err
	}
	kept, err := r.dir.Discard(id, newCluster)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(r.s.out, "It is in %s. The group's members give this node a new one, once it is added to the group again.\n", kept)
	return err
}

func groupName(id wire.GroupID) string {
	if id == recovery.SystemGroup {
		return fmt.Sprintf("%d (system)", id)
	}
	return strconv.FormatUint(uint64(id), 10)
}

// joined lists names; "none" if there are none.
func joined[S ~string](names []S) string {
	if len(names) == 0 {
		return "none"
	}
	text := make([]string, len(names))
	for i, n := range names {
		text[i] = string(n)
	}
	return strings.Join(text, ", ")
}
