"""Looking at the pictures: search by words (`search`), and the pages of a local gallery (`app`)."""
