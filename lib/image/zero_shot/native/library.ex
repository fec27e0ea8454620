defmodule Image.ZeroShot.Native.Library do
  @moduledoc false

  # Shared by the modules of both native libraries.
  #
  # A library once loaded cannot be exchanged in a running system, so such a module holds nothing
  # but the library's functions. `load/1` is called by `Native.Loader`, not by `@on_load`: a release
  # loads all its modules at boot, wanted or not.
  #
  # A new instance of such a module would be without the library. `@on_load` refuses to become one;
  # the VM then keeps the instance that it has, and calls go on.

  defmacro __using__(_opts) do
    quote do
      # Else the compiler loads the library into the Mix VM, and it cannot be replaced.
      @compile {:autoload, false}
      @on_load :refuse_reload

      @spec load(charlist()) :: :ok | {:error, {atom(), charlist()}}
      def load(path) do
        with :ok <- :erlang.load_nif(path, 0), do: :persistent_term.put(__MODULE__, :loaded)
      end

      @spec loaded?() :: boolean()
      def loaded?, do: :persistent_term.get(__MODULE__, :not_loaded) == :loaded

      defp refuse_reload do
        if :erlang.module_loaded(__MODULE__) and loaded?(),
          do: {:error, unquote(__MODULE__).refusal(__MODULE__)},
          else: :ok
      end

      defp not_loaded, do: :erlang.nif_error(unquote(__MODULE__).not_loaded())
    end
  end

  @spec refusal(module()) :: String.t()
  def refusal(module) do
    "the native library of #{inspect(module)} cannot be exchanged in a running system: " <>
      "the module stays unchanged until the system is restarted"
  end

  @spec not_loaded() :: Exception.t()
  def not_loaded do
    %RuntimeError{
      message:
        "the native library of Image.ZeroShot is not loaded: start the application " <>
          ":image_zero_shot, or restart the system if this module was loaded anew"
    }
  end
end
