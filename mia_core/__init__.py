"""MemberScope's engine: was a recommender trained on a person's data, and how sure can one be?"""

__version__ = "0.1.0"
