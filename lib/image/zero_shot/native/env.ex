defmodule Image.ZeroShot.Native.Env do
  @moduledoc false

  # Sets variables where C code reads them, which `System.put_env/2` does not reach.
  #
  # A library of its own, without libtorch: libgomp reads its variables when it is loaded, and it
  # is loaded together with libtorch.

  @compile {:autoload, false}

  @spec load(charlist()) :: :ok | {:error, {atom(), charlist()}}
  def load(path), do: :erlang.load_nif(path, 0)

  @spec put_default(String.t(), String.t()) :: {:ok, :set | :kept} | {:error, String.t()}
  def put_default(_name, _value), do: :erlang.nif_error(:nif_not_loaded)
end
