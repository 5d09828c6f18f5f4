"""How much memory training needs: the plans, their arithmetic, and the choice for a GPU. No torch at import."""
