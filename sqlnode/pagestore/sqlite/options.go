package sqlite

import lib "modernc.org/sqlite/lib"

// OpenFlags says how a database is opened.
type OpenFlags uint32

// Flags of Open. One of ReadOnly and ReadWrite is needed. NoMutex holds
// whether given or not: a Conn is used by one goroutine at a time.
const (
	ReadOnly  OpenFlags = lib.SQLITE_OPEN_READONLY
	ReadWrite OpenFlags = lib.SQLITE_OPEN_READWRITE
	Create    OpenFlags = lib.SQLITE_OPEN_CREATE // with ReadWrite: make the file if there is none
	URI       OpenFlags = lib.SQLITE_OPEN_URI    // the name may be a file: URI
	Memory    OpenFlags = lib.SQLITE_OPEN_MEMORY // the database is in memory; the name is but a name
	NoMutex   OpenFlags = lib.SQLITE_OPEN_NOMUTEX
	NoFollow  OpenFlags = lib.SQLITE_OPEN_NOFOLLOW // a symbolic link is refused
)

// ConfigOp is a switch of one connection (https://www.sqlite.org/c3ref/c_dbconfig_defensive.html).
type ConfigOp int32

// Switches of a connection.
const (
	EnableForeignKeys   ConfigOp = lib.SQLITE_DBCONFIG_ENABLE_FKEY
	EnableTriggers      ConfigOp = lib.SQLITE_DBCONFIG_ENABLE_TRIGGER
	EnableViews         ConfigOp = lib.SQLITE_DBCONFIG_ENABLE_VIEW
	EnableLoadExtension ConfigOp = lib.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION
	EnableComments      ConfigOp = lib.SQLITE_DBCONFIG_ENABLE_COMMENTS
	EnableAttachCreate  ConfigOp = lib.SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE
	EnableAttachWrite   ConfigOp = lib.SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE
	StablePlans         ConfigOp = lib.SQLITE_DBCONFIG_ENABLE_QPSG // plans don't depend on bound values
	NoCheckpointOnClose ConfigOp = lib.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE
	Defensive           ConfigOp = lib.SQLITE_DBCONFIG_DEFENSIVE
	WritableSchema      ConfigOp = lib.SQLITE_DBCONFIG_WRITABLE_SCHEMA
	TrustedSchema       ConfigOp = lib.SQLITE_DBCONFIG_TRUSTED_SCHEMA
	LegacyAlterTable    ConfigOp = lib.SQLITE_DBCONFIG_LEGACY_ALTER_TABLE
	LegacyFileFormat    ConfigOp = lib.SQLITE_DBCONFIG_LEGACY_FILE_FORMAT
	ResetDatabase       ConfigOp = lib.SQLITE_DBCONFIG_RESET_DATABASE
	DQSInDML            ConfigOp = lib.SQLITE_DBCONFIG_DQS_DML // "text" may be a string literal in queries and DML
	DQSInDDL            ConfigOp = lib.SQLITE_DBCONFIG_DQS_DDL // the same in DDL
)

// LimitID names a limit of one connection (https://www.sqlite.org/c3ref/c_limit_attached.html).
type LimitID int32

// Limits of a connection.
const (
	LimitLength            LimitID = lib.SQLITE_LIMIT_LENGTH     // bytes of a value or a row
	LimitSQLLength         LimitID = lib.SQLITE_LIMIT_SQL_LENGTH // bytes of one statement
	LimitColumn            LimitID = lib.SQLITE_LIMIT_COLUMN
	LimitExprDepth         LimitID = lib.SQLITE_LIMIT_EXPR_DEPTH
	LimitCompoundSelect    LimitID = lib.SQLITE_LIMIT_COMPOUND_SELECT
	LimitVDBEOp            LimitID = lib.SQLITE_LIMIT_VDBE_OP
	LimitFunctionArg       LimitID = lib.SQLITE_LIMIT_FUNCTION_ARG
	LimitAttached          LimitID = lib.SQLITE_LIMIT_ATTACHED
	LimitLikePatternLength LimitID = lib.SQLITE_LIMIT_LIKE_PATTERN_LENGTH
	LimitVariableNumber    LimitID = lib.SQLITE_LIMIT_VARIABLE_NUMBER // highest number of a parameter
	LimitTriggerDepth      LimitID = lib.SQLITE_LIMIT_TRIGGER_DEPTH
	LimitWorkerThreads     LimitID = lib.SQLITE_LIMIT_WORKER_THREADS
	LimitParserDepth       LimitID = lib.SQLITE_LIMIT_PARSER_DEPTH
)

// ConnStatus names a counter of one connection (https://www.sqlite.org/c3ref/c_dbstatus_options.html).
type ConnStatus int32

// Counters of a connection.
const (
	StatusLookasideUsed   ConnStatus = lib.SQLITE_DBSTATUS_LOOKASIDE_USED // slots
	StatusCacheUsed       ConnStatus = lib.SQLITE_DBSTATUS_CACHE_USED     // bytes of cached pages
	StatusSchemaUsed      ConnStatus = lib.SQLITE_DBSTATUS_SCHEMA_USED    // bytes of parsed schema
	StatusStmtUsed        ConnStatus = lib.SQLITE_DBSTATUS_STMT_USED      // bytes of prepared statements
	StatusCacheHit        ConnStatus = lib.SQLITE_DBSTATUS_CACHE_HIT      // pages
	StatusCacheMiss       ConnStatus = lib.SQLITE_DBSTATUS_CACHE_MISS     // pages
	StatusCacheWrite      ConnStatus = lib.SQLITE_DBSTATUS_CACHE_WRITE    // pages
	StatusCacheSpill      ConnStatus = lib.SQLITE_DBSTATUS_CACHE_SPILL    // pages written before the transaction's end
	StatusTempBufSpill    ConnStatus = lib.SQLITE_DBSTATUS_TEMPBUF_SPILL  // bytes of temporary buffers written to disk
	statusDeferredFKs     ConnStatus = lib.SQLITE_DBSTATUS_DEFERRED_FKS
	StatusLookasideHit    ConnStatus = lib.SQLITE_DBSTATUS_LOOKASIDE_HIT
	StatusLookasideNoSize ConnStatus = lib.SQLITE_DBSTATUS_LOOKASIDE_MISS_SIZE
	StatusLookasideFull   ConnStatus = lib.SQLITE_DBSTATUS_LOOKASIDE_MISS_FULL
)

// StmtStatus names a counter of one statement (https://www.sqlite.org/c3ref/c_stmtstatus_counter.html).
type StmtStatus int32

// Counters of a statement. They count over all its runs until reset.
const (
	StatusFullScanSteps StmtStatus = lib.SQLITE_STMTSTATUS_FULLSCAN_STEP // rows stepped over in full scans
	StatusSorts         StmtStatus = lib.SQLITE_STMTSTATUS_SORT
	StatusAutoIndex     StmtStatus = lib.SQLITE_STMTSTATUS_AUTOINDEX // rows put in automatic indexes
	StatusVMSteps       StmtStatus = lib.SQLITE_STMTSTATUS_VM_STEP   // operations of the virtual machine
	StatusReprepares    StmtStatus = lib.SQLITE_STMTSTATUS_REPREPARE
	StatusRuns          StmtStatus = lib.SQLITE_STMTSTATUS_RUN
	StatusFilterMiss    StmtStatus = lib.SQLITE_STMTSTATUS_FILTER_MISS
	StatusFilterHit     StmtStatus = lib.SQLITE_STMTSTATUS_FILTER_HIT
	StatusMemUsed       StmtStatus = lib.SQLITE_STMTSTATUS_MEMUSED // bytes; never reset
)

// TxnState is how far a connection is in a transaction.
type TxnState int32

// States of a transaction.
const (
	TxnNone  TxnState = lib.SQLITE_TXN_NONE
	TxnRead  TxnState = lib.SQLITE_TXN_READ
	TxnWrite TxnState = lib.SQLITE_TXN_WRITE
)
