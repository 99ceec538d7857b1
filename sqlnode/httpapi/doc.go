// Package httpapi is the HTTP side of one node: the native API of docs/api.md. It
// turns requests into wire.Request and answers into JSON; running SQL, keeping
// tenants and checking tokens is done by what it is given.
//
// What holds:
//
//   - Each route asks Auth before it does anything, but for health checks. SQL needs the right
//     to that tenant; all else an administrator.
//   - A request costs no more memory than Config allows, whatever is sent, packed or not. Imports
//     and exports of any size pass through without being held.
//   - An answer is whole, or says that it is not: an error before the first byte has its
//     status and body; after it a line of NDJSON, or a broken connection where there are no lines.
//   - Every answer from 400 on has the same JSON body, those of unknown routes and methods too.
//   - What another node has to answer is sent there and comes back as that node gave it, once: who asks was checked here,
//     and nobody passes it on a second time. It is sent again only while it surely had no effect, or where twice is as
//     once; a write of which that is not known is answered UNKNOWN_OUTCOME. FORMAT.md has the headers between nodes.
//   - The headers and routes that are for nodes mean nothing on the public listener.
//   - Handlers do not recover from panics: what is wrong inside SQLite must not be lived with.
//
// A slow client is given up when it takes or gives nothing for Config.Stall. How many
// connections there are is for the http.Server around it.
package httpapi
