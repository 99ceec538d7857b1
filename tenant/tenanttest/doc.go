// Package tenanttest has the suite that every tenant.Catalogue passes, and a
// catalogue in memory that passes it, for tests of those that use one.
package tenanttest
