// Package tenant owns the words about tenants: what one is called, what it may
// use, where it lives, and the steps of its life.
//
// What holds:
//
//   - An [ID] is never reused; a [Name] is, once its tenant was deleted or renamed.
//   - A [Tenant] changes by an [Event] only, and [Tenant.Apply] is the one place
//     that says which events a state allows. It is pure: every voter that applies
//     the same events to the same record has the same record.
//   - Events travel as control entries in the log of the tenant's group, in order
//     with its transactions, in the format of FORMAT.md. A [Catalogue] is a
//     directory of tenants, never a proof of what they are.
//   - A limit that is zero means the default of [DefaultLimits].
//
// The life of a tenant:
//
//	          Created             Frozen
//	(nothing) ───────▶ active ◀──────────▶ frozen
//	                     ▲  │   Thawed       │
//	           Undeleted │  │ Deleted        │ Deleted
//	                     │  ▼                │
//	                    deleted ◀────────────┘
//
// The package does no I/O; sqlnode proposes the events and keeps the catalogue.
package tenant
