package crrfiles

import (
	"bytes"

	"github.com/nearsql/nearsql/crr"
	"github.com/nearsql/nearsql/sqlnode/pagestore/sqlite"
	"github.com/nearsql/nearsql/wire"
)

// Site is a site and the node that it is on.
type Site struct {
	crr.Member
	Node string
}

// Sites returns the tenant's own sites with their nodes, as main says here; see Members.
func (w *Writer) Sites(of wire.TenantID) ([]Site, error) {
	return sitesOf(w.Conn.Conn, of)
}

func sitesOf(c *sqlite.Conn, of wire.TenantID) ([]Site, error) {
	members, err := Members(c, of)
	if err != nil || len(members) == 0 {
		return nil, err
	}
	nodes := map[crr.SiteID]string{}
	err = each(c, "SELECT number, tenant, node FROM main.__crr_site", func(s *sqlite.Stmt) error {
		if bytes.Equal(s.ColumnBytes(1), of[:]) {
			nodes[crr.SiteID(s.ColumnInt64(0))] = s.Column(2).Str()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []Site
	for _, m := range members {
		if node, own := nodes[m.Site]; own {
			out = append(out, Site{m, node})
		}
	}
	return out, nil
}
