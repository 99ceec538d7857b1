package sqlite

import "fmt"

// Result codes (https://www.sqlite.org/rescode.html). The low byte of an
// extended code is its primary code.
const (
	CodeOK                     = 0
	CodeError                  = 1
	CodeInternal               = 2
	CodePerm                   = 3
	CodeAbort                  = 4
	CodeBusy                   = 5
	CodeLocked                 = 6
	CodeNoMem                  = 7
	CodeReadOnly               = 8
	CodeInterrupt              = 9
	CodeIOErr                  = 10
	CodeCorrupt                = 11
	CodeNotFound               = 12
	CodeFull                   = 13
	CodeCantOpen               = 14
	CodeProtocol               = 15
	CodeEmpty                  = 16
	CodeSchema                 = 17
	CodeTooBig                 = 18
	CodeConstraint             = 19
	CodeMismatch               = 20
	CodeMisuse                 = 21
	CodeNoLFS                  = 22
	CodeAuth                   = 23
	CodeFormat                 = 24
	CodeRange                  = 25
	CodeNotADB                 = 26
	CodeNotice                 = 27
	CodeWarning                = 28
	CodeErrorMissingCollSeq    = 257
	CodeBusyRecovery           = 261
	CodeLockedSharedCache      = 262
	CodeReadOnlyRecovery       = 264
	CodeIOErrRead              = 266
	CodeCorruptVTab            = 267
	CodeCantOpenNoTempDir      = 270
	CodeConstraintCheck        = 275
	CodeAuthUser               = 279
	CodeNoticeRecoverWAL       = 283
	CodeWarningAutoIndex       = 284
	CodeErrorRetry             = 513
	CodeAbortRollback          = 516
	CodeBusySnapshot           = 517
	CodeLockedVTab             = 518
	CodeReadOnlyCantLock       = 520
	CodeIOErrShortRead         = 522
	CodeCorruptSequence        = 523
	CodeCantOpenIsDir          = 526
	CodeConstraintCommitHook   = 531
	CodeNoticeRecoverRollback  = 539
	CodeErrorSnapshot          = 769
	CodeBusyTimeout            = 773
	CodeReadOnlyRollback       = 776
	CodeIOErrWrite             = 778
	CodeCorruptIndex           = 779
	CodeCantOpenFullPath       = 782
	CodeConstraintForeignKey   = 787
	CodeNoticeRBU              = 795
	CodeErrorReserveSize       = 1025
	CodeReadOnlyDBMoved        = 1032
	CodeIOErrFSync             = 1034
	CodeCantOpenConvPath       = 1038
	CodeConstraintFunction     = 1043
	CodeErrorKey               = 1281
	CodeReadOnlyCantInit       = 1288
	CodeIOErrDirFSync          = 1290
	CodeCantOpenDirtyWAL       = 1294
	CodeConstraintNotNull      = 1299
	CodeErrorUnable            = 1537
	CodeReadOnlyDirectory      = 1544
	CodeIOErrTruncate          = 1546
	CodeCantOpenSymlink        = 1550
	CodeConstraintPrimaryKey   = 1555
	CodeIOErrFStat             = 1802
	CodeConstraintTrigger      = 1811
	CodeIOErrUnlock            = 2058
	CodeConstraintUnique       = 2067
	CodeIOErrRdLock            = 2314
	CodeConstraintVTab         = 2323
	CodeIOErrDelete            = 2570
	CodeConstraintRowID        = 2579
	CodeIOErrBlocked           = 2826
	CodeConstraintPinned       = 2835
	CodeIOErrNoMem             = 3082
	CodeConstraintDataType     = 3091
	CodeIOErrAccess            = 3338
	CodeIOErrCheckReservedLock = 3594
	CodeIOErrLock              = 3850
	CodeIOErrClose             = 4106
	CodeIOErrDirClose          = 4362
	CodeIOErrShmOpen           = 4618
	CodeIOErrShmSize           = 4874
	CodeIOErrShmLock           = 5130
	CodeIOErrShmMap            = 5386
	CodeIOErrSeek              = 5642
	CodeIOErrDeleteNoEnt       = 5898
	CodeIOErrMMap              = 6154
	CodeIOErrGetTempPath       = 6410
	CodeIOErrConvPath          = 6666
	CodeIOErrVNode             = 6922
	CodeIOErrAuth              = 7178
	CodeIOErrBeginAtomic       = 7434
	CodeIOErrCommitAtomic      = 7690
	CodeIOErrRollbackAtomic    = 7946
	CodeIOErrData              = 8202
	CodeIOErrCorruptFS         = 8458
	CodeIOErrInPage            = 8714
	CodeIOErrBadKey            = 8970
	CodeIOErrCodec             = 9226
)

// CodeName returns the name of a result code, as "SQLITE_CONSTRAINT_UNIQUE";
// of an extended code that it doesn't know, that of the primary code.
func CodeName(code int) string {
	switch code {
	case CodeOK:
		return "SQLITE_OK"
	case CodeError:
		return "SQLITE_ERROR"
	case CodeInternal:
		return "SQLITE_INTERNAL"
	case CodePerm:
		return "SQLITE_PERM"
	case CodeAbort:
		return "SQLITE_ABORT"
	case CodeBusy:
		return "SQLITE_BUSY"
	case CodeLocked:
		return "SQLITE_LOCKED"
	case CodeNoMem:
		return "SQLITE_NOMEM"
	case CodeReadOnly:
		return "SQLITE_READONLY"
	case CodeInterrupt:
		return "SQLITE_INTERRUPT"
	case CodeIOErr:
		return "SQLITE_IOERR"
	case CodeCorrupt:
		return "SQLITE_CORRUPT"
	case CodeNotFound:
		return "SQLITE_NOTFOUND"
	case CodeFull:
		return "SQLITE_FULL"
	case CodeCantOpen:
		return "SQLITE_CANTOPEN"
	case CodeProtocol:
		return "SQLITE_PROTOCOL"
	case CodeEmpty:
		return "SQLITE_EMPTY"
	case CodeSchema:
		return "SQLITE_SCHEMA"
	case CodeTooBig:
		return "SQLITE_TOOBIG"
	case CodeConstraint:
		return "SQLITE_CONSTRAINT"
	case CodeMismatch:
		return "SQLITE_MISMATCH"
	case CodeMisuse:
		return "SQLITE_MISUSE"
	case CodeNoLFS:
		return "SQLITE_NOLFS"
	case CodeAuth:
		return "SQLITE_AUTH"
	case CodeFormat:
		return "SQLITE_FORMAT"
	case CodeRange:
		return "SQLITE_RANGE"
	case CodeNotADB:
		return "SQLITE_NOTADB"
	case CodeNotice:
		return "SQLITE_NOTICE"
	case CodeWarning:
		return "SQLITE_WARNING"
	case CodeErrorMissingCollSeq:
		return "SQLITE_ERROR_MISSING_COLLSEQ"
	case CodeBusyRecovery:
		return "SQLITE_BUSY_RECOVERY"
	case CodeLockedSharedCache:
		return "SQLITE_LOCKED_SHAREDCACHE"
	case CodeReadOnlyRecovery:
		return "SQLITE_READONLY_RECOVERY"
	case CodeIOErrRead:
		return "SQLITE_IOERR_READ"
	case CodeCorruptVTab:
		return "SQLITE_CORRUPT_VTAB"
	case CodeCantOpenNoTempDir:
		return "SQLITE_CANTOPEN_NOTEMPDIR"
	case CodeConstraintCheck:
		return "SQLITE_CONSTRAINT_CHECK"
	case CodeAuthUser:
		return "SQLITE_AUTH_USER"
	case CodeNoticeRecoverWAL:
		return "SQLITE_NOTICE_RECOVER_WAL"
	case CodeWarningAutoIndex:
		return "SQLITE_WARNING_AUTOINDEX"
	case CodeErrorRetry:
		return "SQLITE_ERROR_RETRY"
	case CodeAbortRollback:
		return "SQLITE_ABORT_ROLLBACK"
	case CodeBusySnapshot:
		return "SQLITE_BUSY_SNAPSHOT"
	case CodeLockedVTab:
		return "SQLITE_LOCKED_VTAB"
	case CodeReadOnlyCantLock:
		return "SQLITE_READONLY_CANTLOCK"
	case CodeIOErrShortRead:
		return "SQLITE_IOERR_SHORT_READ"
	case CodeCorruptSequence:
		return "SQLITE_CORRUPT_SEQUENCE"
	case CodeCantOpenIsDir:
		return "SQLITE_CANTOPEN_ISDIR"
	case CodeConstraintCommitHook:
		return "SQLITE_CONSTRAINT_COMMITHOOK"
	case CodeNoticeRecoverRollback:
		return "SQLITE_NOTICE_RECOVER_ROLLBACK"
	case CodeErrorSnapshot:
		return "SQLITE_ERROR_SNAPSHOT"
	case CodeBusyTimeout:
		return "SQLITE_BUSY_TIMEOUT"
	case CodeReadOnlyRollback:
		return "SQLITE_READONLY_ROLLBACK"
	case CodeIOErrWrite:
		return "SQLITE_IOERR_WRITE"
	case CodeCorruptIndex:
		return "SQLITE_CORRUPT_INDEX"
	case CodeCantOpenFullPath:
		return "SQLITE_CANTOPEN_FULLPATH"
	case CodeConstraintForeignKey:
		return "SQLITE_CONSTRAINT_FOREIGNKEY"
	case CodeNoticeRBU:
		return "SQLITE_NOTICE_RBU"
	case CodeErrorReserveSize:
		return "SQLITE_ERROR_RESERVESIZE"
	case CodeReadOnlyDBMoved:
		return "SQLITE_READONLY_DBMOVED"
	case CodeIOErrFSync:
		return "SQLITE_IOERR_FSYNC"
	case CodeCantOpenConvPath:
		return "SQLITE_CANTOPEN_CONVPATH"
	case CodeConstraintFunction:
		return "SQLITE_CONSTRAINT_FUNCTION"
	case CodeErrorKey:
		return "SQLITE_ERROR_KEY"
	case CodeReadOnlyCantInit:
		return "SQLITE_READONLY_CANTINIT"
	case CodeIOErrDirFSync:
		return "SQLITE_IOERR_DIR_FSYNC"
	case CodeCantOpenDirtyWAL:
		return "SQLITE_CANTOPEN_DIRTYWAL"
	case CodeConstraintNotNull:
		return "SQLITE_CONSTRAINT_NOTNULL"
	case CodeErrorUnable:
		return "SQLITE_ERROR_UNABLE"
	case CodeReadOnlyDirectory:
		return "SQLITE_READONLY_DIRECTORY"
	case CodeIOErrTruncate:
		return "SQLITE_IOERR_TRUNCATE"
	case CodeCantOpenSymlink:
		return "SQLITE_CANTOPEN_SYMLINK"
	case CodeConstraintPrimaryKey:
		return "SQLITE_CONSTRAINT_PRIMARYKEY"
	case CodeIOErrFStat:
		return "SQLITE_IOERR_FSTAT"
	case CodeConstraintTrigger:
		return "SQLITE_CONSTRAINT_TRIGGER"
	case CodeIOErrUnlock:
		return "SQLITE_IOERR_UNLOCK"
	case CodeConstraintUnique:
		return "SQLITE_CONSTRAINT_UNIQUE"
	case CodeIOErrRdLock:
		return "SQLITE_IOERR_RDLOCK"
	case CodeConstraintVTab:
		return "SQLITE_CONSTRAINT_VTAB"
	case CodeIOErrDelete:
		return "SQLITE_IOERR_DELETE"
	case CodeConstraintRowID:
		return "SQLITE_CONSTRAINT_ROWID"
	case CodeIOErrBlocked:
		return "SQLITE_IOERR_BLOCKED"
	case CodeConstraintPinned:
		return "SQLITE_CONSTRAINT_PINNED"
	case CodeIOErrNoMem:
		return "SQLITE_IOERR_NOMEM"
	case CodeConstraintDataType:
		return "SQLITE_CONSTRAINT_DATATYPE"
	case CodeIOErrAccess:
		return "SQLITE_IOERR_ACCESS"
	case CodeIOErrCheckReservedLock:
		return "SQLITE_IOERR_CHECKRESERVEDLOCK"
	case CodeIOErrLock:
		return "SQLITE_IOERR_LOCK"
	case CodeIOErrClose:
		return "SQLITE_IOERR_CLOSE"
	case CodeIOErrDirClose:
		return "SQLITE_IOERR_DIR_CLOSE"
	case CodeIOErrShmOpen:
		return "SQLITE_IOERR_SHMOPEN"
	case CodeIOErrShmSize:
		return "SQLITE_IOERR_SHMSIZE"
	case CodeIOErrShmLock:
		return "SQLITE_IOERR_SHMLOCK"
	case CodeIOErrShmMap:
		return "SQLITE_IOERR_SHMMAP"
	case CodeIOErrSeek:
		return "SQLITE_IOERR_SEEK"
	case CodeIOErrDeleteNoEnt:
		return "SQLITE_IOERR_DELETE_NOENT"
	case CodeIOErrMMap:
		return "SQLITE_IOERR_MMAP"
	case CodeIOErrGetTempPath:
		return "SQLITE_IOERR_GETTEMPPATH"
	case CodeIOErrConvPath:
		return "SQLITE_IOERR_CONVPATH"
	case CodeIOErrVNode:
		return "SQLITE_IOERR_VNODE"
	case CodeIOErrAuth:
		return "SQLITE_IOERR_AUTH"
	case CodeIOErrBeginAtomic:
		return "SQLITE_IOERR_BEGIN_ATOMIC"
	case CodeIOErrCommitAtomic:
		return "SQLITE_IOERR_COMMIT_ATOMIC"
	case CodeIOErrRollbackAtomic:
		return "SQLITE_IOERR_ROLLBACK_ATOMIC"
	case CodeIOErrData:
		return "SQLITE_IOERR_DATA"
	case CodeIOErrCorruptFS:
		return "SQLITE_IOERR_CORRUPTFS"
	case CodeIOErrInPage:
		return "SQLITE_IOERR_IN_PAGE"
	case CodeIOErrBadKey:
		return "SQLITE_IOERR_BADKEY"
	case CodeIOErrCodec:
		return "SQLITE_IOERR_CODEC"
	}
	if code > 0xff {
		return CodeName(code & 0xff)
	}
	return fmt.Sprintf("SQLITE_%d", code)
}
