package pagestore

const lockPageChild = "NEARSQL_TEST_PENDING_BYTE"
