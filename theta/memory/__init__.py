"""The memory that training needs: plans, their arithmetic, and the choice for a GPU. torch is imported in functions."""
