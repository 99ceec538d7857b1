// Package catalogue is the directory of a cluster: its nodes, its groups with the voters that each should have, and the
// group of every tenant by name.
//
// It is kept in tables of the tenant `system`, in the group `system` (1). A [Writer] changes it, by batches of SQL that run at the primary of
// that group; each node follows its own copy of the tenant and keeps a [Directory] of it in memory, which [Directory.Refresh] brings up to date.
//
// What holds:
//
//   - Of the tenants that are live, at most one has a name.
//   - An id of a node or group is never used again. A node is who has the id and the incarnation, a random text of
//     its data directory: a new directory needs a new id.
//   - Each operation of Writer is one transaction, and may be sent again when its outcome is unknown: done twice it is done once.
//   - A row that changes gets the next version, of one counter, in the same transaction. A follower that has all up to a
//     version asks only for what is above. Rows of tenants that are gone are kept until [Writer.Trim], and a follower that
//     was away for longer loads the whole anew.
//   - A [View] never changes. It holds all changes up to its Version, and may hold some of later ones; a tenant's group
//     and a group's nodes are in it.
//   - What a group's voters are is for its Raft configuration to say. The catalogue has what they should be (Group.Voters) and what a
//     primary last reported (Group.Members). [Declare] says what they should be; package membership, how to get there.
//   - Voters of a group that is not founded do not change, so that it can't be founded twice, by voters that know nothing of each other.
//
// # A directory, and no proof
//
// A copy of the catalogue may be old, and between a step in a tenant's own group and the one here there is a time when they
// differ. What a tenant is, and whether it is there, is said by its record in the log of its group alone. Who
// is sent to a group by the catalogue asks that record, and looks anew if it is not there.
//
// Steps that keep to this: to create, claim the name, then log the creation. To rename, claim the new name, then log it. To delete, log
// it, then release. Each primary compares the records of its group with [View.TenantsOf] from time to time, and claims, renames or releases
// what differs. To place, log it, then note it here ([Writer.Place]): so a placement that is known here is one that the record had, with its number, and
// the higher number is the later one.
//
// # What is held of a tenant, and where
//
// Every node holds the catalogue, in every region, whatever jurisdiction a tenant is placed in. Of a tenant it has, and so
// leaves its jurisdiction with:
//
//   - its id, which is random;
//   - its name;
//   - the number of its group, by which the nodes that vote for it, and their PoPs and regions, are known;
//   - where copies of it are to be: the names of the PoPs and regions that its placement names, and how often that was changed;
//   - whether it is live or gone, and when its row last changed (for a tenant that is gone, until its row is trimmed).
//
// It has nothing of a tenant's data, schema, size, limits or tokens: those are in the log of its group. A name that
// tells something which must not leave a jurisdiction should not be given.
//
// # How a node leaves
//
//	active ◀──▶ draining
//	   ▲            ▲
//	   └─────┬──────┘
//	         ▼
//	      removing ──▶ removed
//
// A node that drains is replaced as a voter as soon as another can take its place, and follows the catalogue as before. One that is being removed
// gives up its places without replacement too, unless nobody else would be left in a group; when it is
// a member of no group it is removed, for ever. For that [Declare] looks at what primaries reported: a primary that changes
// members must report each change before it decides on the next, and read the catalogue anew for that decision.
//
// The catalogue of a cluster is small: some hundred bytes for each node that ever was, each group, and each tenant.
package catalogue
