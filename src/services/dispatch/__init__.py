"""Who serves this request, now or as soon as somebody can: what routing decides is carried out here."""
