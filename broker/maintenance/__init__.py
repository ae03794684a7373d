"""What `hubbub-broker check`, `backup`, `restore`, `export` and `salvage` do."""
