defmodule Image.ZeroShot.Call.Secret do
  @moduledoc false

  # A text that nothing shows. It lives in a closure: whatever prints terms, `inspect/2` as well as
  # the crash reports of Erlang, prints of a function no more than its name.

  @enforce_keys [:reveal]
  defstruct [:reveal]

  @type t :: %__MODULE__{reveal: (... -> String.t())}

  @spec new(String.t()) :: t()
  def new(text) when is_binary(text), do: %__MODULE__{reveal: fn -> text end}

  @spec reveal(t()) :: String.t()
  def reveal(%__MODULE__{reveal: reveal}), do: reveal.()

  defimpl Inspect do
    def inspect(_secret, _opts), do: "#Image.ZeroShot.Call.Secret<...>"
  end
end
