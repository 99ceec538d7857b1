// Package copies brings whole copies of tenants from one member of a group to another.
//
// A node that its group's log passed by holds hollow tenants; a copy whose disk rots, or whose pages come out otherwise than the log says,
// is taken out of service. Another member has what they lack. What holds:
//
//   - What is taken was checked page by page against the checksum that the group's own log gives the tenant. A source that
//     lies, or is damaged, costs time and traffic, and no byte of the tenant.
//   - A Fetcher never gives up: it goes from one member to the next and comes back, with pauses that grow up to a bound.
//   - Of a hollow tenant that this node knew at an older state, only the pages that changed since are sent, when the files of the source
//     tell which these are: the versions above its base, its segments, its LTX files. Else all pages are.
//   - A copy that broke off goes on where it stood as long as its source keeps the state that it is of, or any member
//     stands at that same state: copies of one state are the same bytes. Else it begins anew. What
//     was received does not outlive the process.
//   - A copy in service with a corrupt page goes out of service only when another member was seen to have a sound one,
//     and on a primary only after the leadership was handed on. Alone, the page's statements fail and the rest is served.
//   - A copy that diverged from the log is replaced only when a majority of the voters was seen to have gone past that point in service:
//     a majority is never rebuilt from the copy that it contradicts.
//   - Everything is bounded: copies sent and received at once, states kept for those that may come back, how long anyone may
//     stand still, bytes per second if so configured.
//
// Decide is the policy, and pure. Which members there are, nearest first, and who leads, is told by the caller.
package copies
