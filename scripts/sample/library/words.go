package library

// The words that names and titles are made of.

func genres() []string {
	return []string{"Novel", "Crime", "Science fiction", "Fantasy", "Poetry", "History", "Biography", "Travel", "Science", "Children", "Drama", "Essays"}
}

func givenNames() []string {
	return []string{"Ada", "Amir", "Anna", "Aylin", "Bela", "Boris", "Carla", "Chen", "Clara", "Dag", "Daria", "Elif", "Emil", "Esra",
		"Eva", "Farid", "Finn", "Freya", "Gita", "Greta", "Hana", "Hugo", "Ida", "Ines", "Ivo", "Jana", "João", "Jonas", "Kai", "Karin",
		"Lars", "Leila", "Lena", "Luca", "Mai", "Malik", "Mara", "Marek", "Mila", "Nadia", "Nils", "Noor", "Olga", "Omar", "Paula", "Petra",
		"Quentin", "Rania", "Rosa", "Ruben", "Sami", "Sara", "Selma", "Sofie", "Tariq", "Tess", "Tomas", "Ulla", "Vera", "Viktor", "Wanda", "Yara", "Yusuf", "Zoë"}
}

func familyNames() []string {
	return []string{"Abel", "Aksoy", "Andersen", "Bakker", "Baptiste", "Berg", "Bianchi", "Bloom", "Castro", "Cole", "Dahl", "Demir",
		"Duarte", "Eriksen", "Falk", "Farkas", "Fischer", "Fontaine", "Garner", "Grant", "Haddad", "Hale", "Hansen", "Horvat", "Ibrahim",
		"Ito", "Jansen", "Kaya", "Keller", "Khan", "Kovač", "Lange", "Larsen", "Laurent", "Lindqvist", "Lopez", "Mäkinen", "Marsh", "Meyer",
		"Moreau", "Nakamura", "Novak", "Nyström", "O'Brien", "Okafor", "Olsen", "Park", "Petrov", "Quinn", "Rahman", "Reyes", "Rossi",
		"Sato", "Schmidt", "Silva", "Steen", "Sørensen", "Tanaka", "Thorne", "Urban", "Valdez", "Vogel", "Wagner", "Ward", "Weiss", "Yıldız", "Zeman"}
}

func countries() []string {
	return []string{"Brazil", "Canada", "Czechia", "Denmark", "Egypt", "Finland", "France", "Germany", "India", "Italy", "Japan", "Kenya",
		"Mexico", "Netherlands", "Nigeria", "Norway", "Poland", "Portugal", "Spain", "Sweden", "Türkiye", "United Kingdom", "United States"}
}

func towns() []string {
	return []string{"Alder Bay", "Birkenau", "Claymouth", "Dunmere", "Eastwick", "Fernhill", "Gull Point", "Harrowgate"}
}

func adjectives() []string {
	return []string{"Silent", "Hidden", "Last", "Broken", "Golden", "Distant", "Burning", "Forgotten", "Patient", "Quiet", "Winter", "Paper",
		"Invisible", "Second", "Borrowed", "Salt", "Northern", "Empty", "Careful", "Unlikely", "Blue", "Slow", "Bitter", "Crooked"}
}

func nouns() []string {
	return []string{"River", "Garden", "Lighthouse", "Orchard", "Letter", "Harbour", "Mirror", "Bridge", "Winter", "Island", "Clock", "Forest",
		"Stranger", "Promise", "Map", "Kitchen", "Border", "Archive", "Machine", "Storm", "Library", "Valley", "Window", "Violin", "Station", "Shadow"}
}

func people() []string {
	return []string{"Cartographer", "Baker", "Swimmer", "Translator", "Beekeeper", "Night Porter", "Glassblower", "Ferryman", "Astronomer", "Teacher", "Thief", "Gardener"}
}
