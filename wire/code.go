package wire

import (
	"slices"
	"strings"
)

// Code names a kind of failure. SQLITE_… are the names of SQLite's result codes
// (https://www.sqlite.org/rescode.html); the others are ours.
type Code string

// Our codes. What each means is in the table below, and in docs/api.md.
const (
	CodeBadRequest                   Code = "BAD_REQUEST"
	CodeBadJSON                      Code = "BAD_JSON"
	CodeUnknownField                 Code = "UNKNOWN_FIELD"
	CodeBadArgument                  Code = "BAD_ARGUMENT"
	CodeArgumentCount                Code = "ARGUMENT_COUNT"
	CodeMultipleStatements           Code = "MULTIPLE_STATEMENTS"
	CodeEmptyStatement               Code = "EMPTY_STATEMENT"
	CodeInvalidUTF8                  Code = "INVALID_UTF8"
	CodeRequestTooLarge              Code = "REQUEST_TOO_LARGE"
	CodeStatementTooLong             Code = "STATEMENT_TOO_LONG"
	CodeTooManyStatements            Code = "TOO_MANY_STATEMENTS"
	CodeUnauthenticated              Code = "UNAUTHENTICATED"
	CodeForbidden                    Code = "FORBIDDEN"
	CodeReadOnlyRequest              Code = "READ_ONLY_REQUEST"
	CodeSQLNotAllowed                Code = "SQL_NOT_ALLOWED"
	CodeTransactionControlNotAllowed Code = "TRANSACTION_CONTROL_NOT_ALLOWED"
	CodeNoSuchTenant                 Code = "NO_SUCH_TENANT"
	CodeTenantExists                 Code = "TENANT_EXISTS"
	CodeNoSuchNode                   Code = "NO_SUCH_NODE"
	CodeNoSuchGroup                  Code = "NO_SUCH_GROUP"
	CodeConflict                     Code = "CONFLICT"
	CodeTenantFrozen                 Code = "TENANT_FROZEN"
	CodeTenantDeleted                Code = "TENANT_DELETED"
	CodeBadName                      Code = "BAD_NAME"
	CodeBadDatabase                  Code = "BAD_DATABASE"
	CodeCorrupt                      Code = "CORRUPT"
	CodeTxTooLarge                   Code = "TX_TOO_LARGE"
	CodeTenantFull                   Code = "TENANT_FULL"
	CodeDiskFull                     Code = "DISK_FULL"
	CodeTimeout                      Code = "TIMEOUT"
	CodeCancelled                    Code = "CANCELLED"
	CodeRowsTooLarge                 Code = "ROWS_TOO_LARGE"
	CodeAnswerTooLarge               Code = "ANSWER_TOO_LARGE"
	CodeTooManyRequests              Code = "TOO_MANY_REQUESTS"
	CodeOverloaded                   Code = "OVERLOADED"
	CodeNotPrimary                   Code = "NOT_PRIMARY"
	CodeUnknownOutcome               Code = "UNKNOWN_OUTCOME"
	CodeStale                        Code = "STALE"
	CodeUnreachable                  Code = "UNREACHABLE"
	CodeBookmarkLost                 Code = "BOOKMARK_LOST"
	CodeBadBookmark                  Code = "BAD_BOOKMARK"
	CodeSnapshotTooOld               Code = "SNAPSHOT_TOO_OLD"
	CodeIdempotencyMismatch          Code = "IDEMPOTENCY_MISMATCH"
	CodeNotReady                     Code = "NOT_READY"
	CodeShuttingDown                 Code = "SHUTTING_DOWN"
	CodeStatementRefused             Code = "STATEMENT_REFUSED"
	CodeNotFound                     Code = "NOT_FOUND"
	CodeMethodNotAllowed             Code = "METHOD_NOT_ALLOWED"
	CodeUnsupportedMediaType         Code = "UNSUPPORTED_MEDIA_TYPE"
	CodeNotAcceptable                Code = "NOT_ACCEPTABLE"
	CodeInternal                     Code = "INTERNAL"
)

// SQLite's primary result codes.
const (
	CodeSQLiteError      Code = "SQLITE_ERROR"
	CodeSQLiteInternal   Code = "SQLITE_INTERNAL"
	CodeSQLitePerm       Code = "SQLITE_PERM"
	CodeSQLiteAbort      Code = "SQLITE_ABORT"
	CodeSQLiteBusy       Code = "SQLITE_BUSY"
	CodeSQLiteLocked     Code = "SQLITE_LOCKED"
	CodeSQLiteNoMem      Code = "SQLITE_NOMEM"
	CodeSQLiteReadOnly   Code = "SQLITE_READONLY"
	CodeSQLiteInterrupt  Code = "SQLITE_INTERRUPT"
	CodeSQLiteIOErr      Code = "SQLITE_IOERR"
	CodeSQLiteCorrupt    Code = "SQLITE_CORRUPT"
	CodeSQLiteNotFound   Code = "SQLITE_NOTFOUND"
	CodeSQLiteFull       Code = "SQLITE_FULL"
	CodeSQLiteCantOpen   Code = "SQLITE_CANTOPEN"
	CodeSQLiteProtocol   Code = "SQLITE_PROTOCOL"
	CodeSQLiteEmpty      Code = "SQLITE_EMPTY"
	CodeSQLiteSchema     Code = "SQLITE_SCHEMA"
	CodeSQLiteTooBig     Code = "SQLITE_TOOBIG"
	CodeSQLiteConstraint Code = "SQLITE_CONSTRAINT"
	CodeSQLiteMismatch   Code = "SQLITE_MISMATCH"
	CodeSQLiteMisuse     Code = "SQLITE_MISUSE"
	CodeSQLiteNoLFS      Code = "SQLITE_NOLFS"
	CodeSQLiteAuth       Code = "SQLITE_AUTH"
	CodeSQLiteFormat     Code = "SQLITE_FORMAT"
	CodeSQLiteRange      Code = "SQLITE_RANGE"
	CodeSQLiteNotADB     Code = "SQLITE_NOTADB"
	CodeSQLiteNotice     Code = "SQLITE_NOTICE"
	CodeSQLiteWarning    Code = "SQLITE_WARNING"
)

// SQLite's extended result codes that this program or its callers ask for by name.
const (
	CodeSQLiteConstraintCheck      Code = "SQLITE_CONSTRAINT_CHECK"
	CodeSQLiteErrorRetry           Code = "SQLITE_ERROR_RETRY"
	CodeSQLiteBusySnapshot         Code = "SQLITE_BUSY_SNAPSHOT"
	CodeSQLiteConstraintForeignKey Code = "SQLITE_CONSTRAINT_FOREIGNKEY"
	CodeSQLiteConstraintNotNull    Code = "SQLITE_CONSTRAINT_NOTNULL"
	CodeSQLiteConstraintPrimaryKey Code = "SQLITE_CONSTRAINT_PRIMARYKEY"
	CodeSQLiteConstraintTrigger    Code = "SQLITE_CONSTRAINT_TRIGGER"
	CodeSQLiteConstraintUnique     Code = "SQLITE_CONSTRAINT_UNIQUE"
	CodeSQLiteConstraintRowID      Code = "SQLITE_CONSTRAINT_ROWID"
	CodeSQLiteIOErrNoMem           Code = "SQLITE_IOERR_NOMEM"
	CodeSQLiteConstraintDataType   Code = "SQLITE_CONSTRAINT_DATATYPE"
	CodeSQLiteIOErrData            Code = "SQLITE_IOERR_DATA"
)

// codeInfo is a row of the table of codes.
type codeInfo struct {
	status    int // HTTP
	retryable bool
	meaning   string
}

// codes is the table; never written.
var codes = map[Code]codeInfo{
	CodeBadRequest:                   {400, false, "The request is not what the route takes: a parameter, header or body is missing, unknown or malformed."},
	CodeBadJSON:                      {400, false, "The body is not JSON, or a value in it has the wrong type; the message has its path."},
	CodeUnknownField:                 {400, false, "The JSON body has a field that nobody knows, or one twice."},
	CodeBadArgument:                  {400, false, "An argument of a statement has no SQLite value: an integer beyond 64 bits, bad base64, a nested array."},
	CodeArgumentCount:                {400, false, "The statement has more or fewer parameters than arguments were given, or a name that was not given."},
	CodeMultipleStatements:           {400, false, "The text has more than one statement where one is asked; send a batch."},
	CodeEmptyStatement:               {400, false, "The text has no statement."},
	CodeInvalidUTF8:                  {400, false, "The request has text that is not UTF-8."},
	CodeRequestTooLarge:              {413, false, "The body, packed or unpacked, is larger than the node takes."},
	CodeStatementTooLong:             {413, false, "A statement is longer than the tenant's limit."},
	CodeTooManyStatements:            {413, false, "A batch has more statements than the limit."},
	CodeUnauthenticated:              {401, false, "The request has no token, or one that is not valid."},
	CodeForbidden:                    {403, false, "The token does not permit this."},
	CodeReadOnlyRequest:              {403, false, "A statement that writes came in a request that may only read, as GET."},
	CodeSQLNotAllowed:                {403, false, "The SQL is refused to all tenants: ATTACH, a PRAGMA outside the list, an internal table, a TEMP object."},
	CodeTransactionControlNotAllowed: {400, false, "BEGIN, COMMIT, ROLLBACK and SAVEPOINT have no place in a request that is one transaction; send a batch."},
	CodeNoSuchTenant:                 {404, false, "There is no tenant of that name."},
	CodeTenantExists:                 {409, false, "There is a tenant of that name already."},
	CodeNoSuchNode:                   {404, false, "The cluster has no node of that id."},
	CodeNoSuchGroup:                  {404, false, "The cluster has no group of that name or number."},
	CodeConflict:                     {409, false, "What was asked does not go with the state of the cluster, which the message names."},
	CodeTenantFrozen:                 {423, false, "The tenant takes no writes until it is thawed."},
	CodeTenantDeleted:                {410, false, "The tenant has been deleted."},
	CodeBadName:                      {400, false, "The name is none that a tenant may have."},
	CodeBadDatabase:                  {400, false, "The file to be imported is not a sound SQLite database, or not SQL that makes one."},
	CodeCorrupt:                      {500, false, "This copy of the tenant is damaged and out of service until it is rebuilt."},
	CodeTxTooLarge:                   {413, false, "The transaction changes more bytes than the tenant's limit."},
	CodeTenantFull:                   {507, false, "The tenant has reached its size limit."},
	CodeDiskFull:                     {507, false, "The node has no room left."},
	CodeTimeout:                      {504, false, "The request took longer than it may, and was rolled back."},
	CodeCancelled:                    {499, false, "The client went away before the answer."},
	CodeRowsTooLarge:                 {413, false, "The answer has more rows than the tenant's limit; stream it as NDJSON, or ask for less."},
	CodeAnswerTooLarge:               {413, false, "The answer has more bytes than the tenant's limit; stream it as NDJSON, or ask for less."},
	CodeTooManyRequests:              {429, true, "The tenant has reached its rate, or its number of requests at a time."},
	CodeOverloaded:                   {429, true, "The node has more to do than it can queue."},
	CodeNotPrimary:                   {503, true, "No primary could be reached, or it changed; the request had no effect."},
	CodeUnknownOutcome:               {503, false, "The primary was lost while the write was on its way: it may have happened or not. Look, or repeat it with its Idempotency-Key."},
	CodeStale:                        {503, true, "No copy within reach is as fresh as was asked for."},
	CodeUnreachable:                  {503, true, "Sites whose changes were asked for can not be reached; the message names them."},
	CodeBookmarkLost:                 {409, false, "The bookmark is of a history that was lost or replaced."},
	CodeBadBookmark:                  {400, false, "The bookmark is none that this tenant gave."},
	CodeSnapshotTooOld:               {503, true, "The read took so long that the version it saw had to go."},
	CodeIdempotencyMismatch:          {422, false, "The Idempotency-Key was used before, with another request."},
	CodeNotReady:                     {503, true, "The node does not take requests yet, or no more."},
	CodeShuttingDown:                 {503, true, "The node is about to stop; the request had no effect."},
	CodeStatementRefused:             {503, false, "This statement ended the process a short while ago, and is refused for some time."},
	CodeNotFound:                     {404, false, "There is no such route."},
	CodeMethodNotAllowed:             {405, false, "The route does not take this method."},
	CodeUnsupportedMediaType:         {415, false, "The body has a Content-Type or Content-Encoding that the route does not take."},
	CodeNotAcceptable:                {406, false, "The route has no answer of a type in Accept."},
	CodeInternal:                     {500, false, "A fault of the node; its log has the cause."},

	CodeSQLiteError:      {400, false, "The SQL is wrong, or can not be carried out: a syntax error, no such table, RAISE."},
	CodeSQLiteInternal:   {500, false, "A fault inside SQLite."},
	CodeSQLitePerm:       {403, false, "The access mode asked for is not granted."},
	CodeSQLiteAbort:      {409, false, "The statement was ended early by another of its transaction."},
	CodeSQLiteBusy:       {503, true, "The database is in use by another writer."},
	CodeSQLiteLocked:     {503, true, "A table is in use by another statement."},
	CodeSQLiteNoMem:      {503, true, "There is not enough memory for the statement."},
	CodeSQLiteReadOnly:   {403, false, "A write to a database that takes none here."},
	CodeSQLiteInterrupt:  {503, false, "The statement was interrupted."},
	CodeSQLiteIOErr:      {500, false, "Reading or writing the database failed."},
	CodeSQLiteCorrupt:    {500, false, "The database is damaged."},
	CodeSQLiteNotFound:   {500, false, "SQLite does not know an operation of the node."},
	CodeSQLiteFull:       {507, false, "The disk, or the database, is full."},
	CodeSQLiteCantOpen:   {500, false, "A file can not be opened."},
	CodeSQLiteProtocol:   {503, true, "Locks could not be taken in order."},
	CodeSQLiteEmpty:      {500, false, "Not in use."},
	CodeSQLiteSchema:     {503, true, "The schema changed while the statement was prepared."},
	CodeSQLiteTooBig:     {413, false, "A text, blob or row is larger than the limit."},
	CodeSQLiteConstraint: {409, false, "A constraint of the schema does not hold."},
	CodeSQLiteMismatch:   {400, false, "A value has a type that the column does not take."},
	CodeSQLiteMisuse:     {500, false, "The node called SQLite in a wrong way."},
	CodeSQLiteNoLFS:      {500, false, "The file system has no large files."},
	CodeSQLiteAuth:       {403, false, "The statement needs a right that the token does not have."},
	CodeSQLiteFormat:     {500, false, "Not in use."},
	CodeSQLiteRange:      {400, false, "An argument has a position that no parameter has."},
	CodeSQLiteNotADB:     {500, false, "The file is not a database."},
	CodeSQLiteNotice:     {500, false, "A notice, no error."},
	CodeSQLiteWarning:    {500, false, "A warning, no error."},

	"SQLITE_ABORT_ROLLBACK":          {409, false, "The statement was ended early by another of its transaction."},
	"SQLITE_AUTH_USER":               {403, false, "The statement needs a right that the token does not have."},
	"SQLITE_BUSY_RECOVERY":           {503, true, "The database is in use by another writer."},
	CodeSQLiteBusySnapshot:           {503, true, "The transaction read a version that another has written over since."},
	"SQLITE_BUSY_TIMEOUT":            {503, true, "The database is in use by another writer."},
	"SQLITE_CANTOPEN_CONVPATH":       {500, false, "A file can not be opened."},
	"SQLITE_CANTOPEN_DIRTYWAL":       {500, false, "A file can not be opened."},
	"SQLITE_CANTOPEN_FULLPATH":       {500, false, "A file can not be opened."},
	"SQLITE_CANTOPEN_ISDIR":          {500, false, "A file can not be opened."},
	"SQLITE_CANTOPEN_NOTEMPDIR":      {500, false, "A file can not be opened."},
	"SQLITE_CANTOPEN_SYMLINK":        {500, false, "A file can not be opened."},
	CodeSQLiteConstraintCheck:        {409, false, "A CHECK constraint does not hold."},
	"SQLITE_CONSTRAINT_COMMITHOOK":   {409, false, "A constraint of the schema does not hold."},
	CodeSQLiteConstraintDataType:     {409, false, "A value has not the type that a STRICT table asks for."},
	CodeSQLiteConstraintForeignKey:   {409, false, "A foreign key has no row, or a row that is referred to would go."},
	"SQLITE_CONSTRAINT_FUNCTION":     {409, false, "A constraint of the schema does not hold."},
	CodeSQLiteConstraintNotNull:      {409, false, "A column that is NOT NULL would be NULL."},
	"SQLITE_CONSTRAINT_PINNED":       {409, false, "A constraint of the schema does not hold."},
	CodeSQLiteConstraintPrimaryKey:   {409, false, "A row with this primary key is there already."},
	CodeSQLiteConstraintRowID:        {409, false, "A row with this rowid is there already."},
	CodeSQLiteConstraintTrigger:      {409, false, "A trigger raised an error."},
	CodeSQLiteConstraintUnique:       {409, false, "A row with this value in a UNIQUE column or index is there already."},
	"SQLITE_CONSTRAINT_VTAB":         {409, false, "A constraint of the schema does not hold."},
	"SQLITE_CORRUPT_INDEX":           {500, false, "The database is damaged."},
	"SQLITE_CORRUPT_SEQUENCE":        {500, false, "The database is damaged."},
	"SQLITE_CORRUPT_VTAB":            {500, false, "The database is damaged."},
	"SQLITE_ERROR_KEY":               {400, false, "The SQL is wrong, or can not be carried out: a syntax error, no such table, RAISE."},
	"SQLITE_ERROR_MISSING_COLLSEQ":   {400, false, "The SQL is wrong, or can not be carried out: a syntax error, no such table, RAISE."},
	"SQLITE_ERROR_RESERVESIZE":       {400, false, "The SQL is wrong, or can not be carried out: a syntax error, no such table, RAISE."},
	CodeSQLiteErrorRetry:             {503, true, "The statement has to be prepared again."},
	"SQLITE_ERROR_SNAPSHOT":          {400, false, "The SQL is wrong, or can not be carried out: a syntax error, no such table, RAISE."},
	"SQLITE_ERROR_UNABLE":            {400, false, "The SQL is wrong, or can not be carried out: a syntax error, no such table, RAISE."},
	"SQLITE_IOERR_ACCESS":            {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_AUTH":              {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_BADKEY":            {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_BEGIN_ATOMIC":      {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_BLOCKED":           {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_CHECKRESERVEDLOCK": {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_CLOSE":             {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_CODEC":             {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_COMMIT_ATOMIC":     {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_CONVPATH":          {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_CORRUPTFS":         {500, false, "Reading or writing the database failed."},
	CodeSQLiteIOErrData:              {500, false, "A page does not match its checksum."},
	"SQLITE_IOERR_DELETE":            {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_DELETE_NOENT":      {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_DIR_CLOSE":         {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_DIR_FSYNC":         {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_FSTAT":             {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_FSYNC":             {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_GETTEMPPATH":       {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_IN_PAGE":           {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_LOCK":              {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_MMAP":              {500, false, "Reading or writing the database failed."},
	CodeSQLiteIOErrNoMem:             {503, true, "There is not enough memory for the statement."},
	"SQLITE_IOERR_RDLOCK":            {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_READ":              {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_ROLLBACK_ATOMIC":   {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_SEEK":              {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_SHMLOCK":           {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_SHMMAP":            {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_SHMOPEN":           {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_SHMSIZE":           {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_SHORT_READ":        {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_TRUNCATE":          {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_UNLOCK":            {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_VNODE":             {500, false, "Reading or writing the database failed."},
	"SQLITE_IOERR_WRITE":             {500, false, "Reading or writing the database failed."},
	"SQLITE_LOCKED_SHAREDCACHE":      {503, true, "A table is in use by another statement."},
	"SQLITE_LOCKED_VTAB":             {503, true, "A table is in use by another statement."},
	"SQLITE_NOTICE_RBU":              {500, false, "A notice, no error."},
	"SQLITE_NOTICE_RECOVER_ROLLBACK": {500, false, "A notice, no error."},
	"SQLITE_NOTICE_RECOVER_WAL":      {500, false, "A notice, no error."},
	"SQLITE_READONLY_CANTINIT":       {403, false, "A write to a database that takes none here."},
	"SQLITE_READONLY_CANTLOCK":       {403, false, "A write to a database that takes none here."},
	"SQLITE_READONLY_DBMOVED":        {403, false, "A write to a database that takes none here."},
	"SQLITE_READONLY_DIRECTORY":      {403, false, "A write to a database that takes none here."},
	"SQLITE_READONLY_RECOVERY":       {403, false, "A write to a database that takes none here."},
	"SQLITE_READONLY_ROLLBACK":       {403, false, "A write to a database that takes none here."},
	"SQLITE_WARNING_AUTOINDEX":       {500, false, "A warning, no error."},
}

// CodeInfo is one row of the table of codes, for documentation.
type CodeInfo struct {
	Code       Code
	HTTPStatus int
	Retryable  bool
	Meaning    string
}

// Codes returns the table of codes: ours first, each group by name.
func Codes() []CodeInfo {
	list := make([]CodeInfo, 0, len(codes))
	for c, info := range codes {
		list = append(list, CodeInfo{c, info.status, info.retryable, info.meaning})
	}
	slices.SortFunc(list, func(a, b CodeInfo) int {
		as, bs := strings.HasPrefix(string(a.Code), "SQLITE_"), strings.HasPrefix(string(b.Code), "SQLITE_")
		if as != bs {
			if bs {
				return -1
			}
			return 1
		}
		return strings.Compare(string(a.Code), string(b.Code))
	})
	return list
}

// sqliteCodes has the names of SQLite's result codes by number; never written.
var sqliteCodes = map[int]Code{
	1:  CodeSQLiteError,
	2:  CodeSQLiteInternal,
	3:  CodeSQLitePerm,
	4:  CodeSQLiteAbort,
	5:  CodeSQLiteBusy,
	6:  CodeSQLiteLocked,
	7:  CodeSQLiteNoMem,
	8:  CodeSQLiteReadOnly,
	9:  CodeSQLiteInterrupt,
	10: CodeSQLiteIOErr,
	11: CodeSQLiteCorrupt,
	12: CodeSQLiteNotFound,
	13: CodeSQLiteFull,
	14: CodeSQLiteCantOpen,
	15: CodeSQLiteProtocol,
	16: CodeSQLiteEmpty,
	17: CodeSQLiteSchema,
	18: CodeSQLiteTooBig,
	19: CodeSQLiteConstraint,
	20: CodeSQLiteMismatch,
	21: CodeSQLiteMisuse,
	22: CodeSQLiteNoLFS,
	23: CodeSQLiteAuth,
	24: CodeSQLiteFormat,
	25: CodeSQLiteRange,
	26: CodeSQLiteNotADB,
	27: CodeSQLiteNotice,
	28: CodeSQLiteWarning,

	257:  "SQLITE_ERROR_MISSING_COLLSEQ",
	261:  "SQLITE_BUSY_RECOVERY",
	262:  "SQLITE_LOCKED_SHAREDCACHE",
	264:  "SQLITE_READONLY_RECOVERY",
	266:  "SQLITE_IOERR_READ",
	267:  "SQLITE_CORRUPT_VTAB",
	270:  "SQLITE_CANTOPEN_NOTEMPDIR",
	275:  CodeSQLiteConstraintCheck,
	279:  "SQLITE_AUTH_USER",
	283:  "SQLITE_NOTICE_RECOVER_WAL",
	284:  "SQLITE_WARNING_AUTOINDEX",
	513:  CodeSQLiteErrorRetry,
	516:  "SQLITE_ABORT_ROLLBACK",
	517:  CodeSQLiteBusySnapshot,
	518:  "SQLITE_LOCKED_VTAB",
	520:  "SQLITE_READONLY_CANTLOCK",
	522:  "SQLITE_IOERR_SHORT_READ",
	523:  "SQLITE_CORRUPT_SEQUENCE",
	526:  "SQLITE_CANTOPEN_ISDIR",
	531:  "SQLITE_CONSTRAINT_COMMITHOOK",
	539:  "SQLITE_NOTICE_RECOVER_ROLLBACK",
	769:  "SQLITE_ERROR_SNAPSHOT",
	773:  "SQLITE_BUSY_TIMEOUT",
	776:  "SQLITE_READONLY_ROLLBACK",
	778:  "SQLITE_IOERR_WRITE",
	779:  "SQLITE_CORRUPT_INDEX",
	782:  "SQLITE_CANTOPEN_FULLPATH",
	787:  CodeSQLiteConstraintForeignKey,
	795:  "SQLITE_NOTICE_RBU",
	1025: "SQLITE_ERROR_RESERVESIZE",
	1032: "SQLITE_READONLY_DBMOVED",
	1034: "SQLITE_IOERR_FSYNC",
	1038: "SQLITE_CANTOPEN_CONVPATH",
	1043: "SQLITE_CONSTRAINT_FUNCTION",
	1281: "SQLITE_ERROR_KEY",
	1288: "SQLITE_READONLY_CANTINIT",
	1290: "SQLITE_IOERR_DIR_FSYNC",
	1294: "SQLITE_CANTOPEN_DIRTYWAL",
	1299: CodeSQLiteConstraintNotNull,
	1537: "SQLITE_ERROR_UNABLE",
	1544: "SQLITE_READONLY_DIRECTORY",
	1546: "SQLITE_IOERR_TRUNCATE",
	1550: "SQLITE_CANTOPEN_SYMLINK",
	1555: CodeSQLiteConstraintPrimaryKey,
	1802: "SQLITE_IOERR_FSTAT",
	1811: CodeSQLiteConstraintTrigger,
	2058: "SQLITE_IOERR_UNLOCK",
	2067: CodeSQLiteConstraintUnique,
	2314: "SQLITE_IOERR_RDLOCK",
	2323: "SQLITE_CONSTRAINT_VTAB",
	2570: "SQLITE_IOERR_DELETE",
	2579: CodeSQLiteConstraintRowID,
	2826: "SQLITE_IOERR_BLOCKED",
	2835: "SQLITE_CONSTRAINT_PINNED",
	3082: CodeSQLiteIOErrNoMem,
	3091: CodeSQLiteConstraintDataType,
	3338: "SQLITE_IOERR_ACCESS",
	3594: "SQLITE_IOERR_CHECKRESERVEDLOCK",
	3850: "SQLITE_IOERR_LOCK",
	4106: "SQLITE_IOERR_CLOSE",
	4362: "SQLITE_IOERR_DIR_CLOSE",
	4618: "SQLITE_IOERR_SHMOPEN",
	4874: "SQLITE_IOERR_SHMSIZE",
	5130: "SQLITE_IOERR_SHMLOCK",
	5386: "SQLITE_IOERR_SHMMAP",
	5642: "SQLITE_IOERR_SEEK",
	5898: "SQLITE_IOERR_DELETE_NOENT",
	6154: "SQLITE_IOERR_MMAP",
	6410: "SQLITE_IOERR_GETTEMPPATH",
	6666: "SQLITE_IOERR_CONVPATH",
	6922: "SQLITE_IOERR_VNODE",
	7178: "SQLITE_IOERR_AUTH",
	7434: "SQLITE_IOERR_BEGIN_ATOMIC",
	7690: "SQLITE_IOERR_COMMIT_ATOMIC",
	7946: "SQLITE_IOERR_ROLLBACK_ATOMIC",
	8202: CodeSQLiteIOErrData,
	8458: "SQLITE_IOERR_CORRUPTFS",
	8714: "SQLITE_IOERR_IN_PAGE",
	8970: "SQLITE_IOERR_BADKEY",
	9226: "SQLITE_IOERR_CODEC",
}

// CodeForSQLite returns the code for an extended (or primary) result code of SQLite. An
// extended code that is not known is as its primary one, and that SQLITE_INTERNAL when it
// is not known either, or no error (SQLITE_OK, SQLITE_ROW, SQLITE_DONE).
func CodeForSQLite(extended int) Code {
	if c, ok := sqliteCodes[extended]; ok {
		return c
	}
	if c, ok := sqliteCodes[extended&0xff]; ok {
		return c
	}
	return CodeSQLiteInternal
}
