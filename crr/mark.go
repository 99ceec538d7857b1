package crr

// Mark is a place among a file's transactions, between which and a later one a push takes what was written. It is made of one
// committed state only: a push whose two ends are not of one state each would leave out transactions in between, and nobody would ever ask for them,
// since by its vector whoever merged it has them. The zero Mark is the beginning of any file.
type Mark struct {
	file FileID
	site SiteID
	upto HLC   // the site's newest transaction
	seq  int64 // number of the file's newest transaction
}

// Site is the number that the file had; 0: none, or the Mark is the beginning.
func (m Mark) Site() SiteID { return m.site }

// Upto is the file's newest own transaction then.
func (m Mark) Upto() HLC { return m.upto }

// Of says whether the mark is of the file, under the number that it has.
func (m Mark) Of(id Identity) bool { return m.file == id.File && m.site == id.Site }

// Mark returns the place of this state among the file's transactions.
func (h Head) Mark() Mark {
	return Mark{file: h.File, site: h.Site, upto: h.Vector[h.Site], seq: h.Seq}
}
