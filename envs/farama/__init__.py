"""The Gymnasium and PettingZoo sides of games and control tasks.

game_vector.py and control_vector.py are batches (vector_base.py has what they share), game_env.py
and control_env.py one environment, game_aec.py and pursuit.py PettingZoo's, sb3.py an adaptor;
registration.py registers them all through import_hook.py.
"""
